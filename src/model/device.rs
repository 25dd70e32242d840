//! Devices: a name the user typed → where the network runs; never another one silently.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Result};

/// Where the network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
}

impl Device {
    /// `auto` (a GPU if libtorch sees one, else the processor), `cpu` or `cuda:N`.
    ///
    /// A device that was asked for by name and is not there is an error.
    pub fn choose(name: &str) -> Result<Device> {
        let gpus = cuda_devices();
        match name {
            "cpu" => Ok(Device::Cpu),
            "auto" => Ok(if gpus > 0 { Device::Cuda(0) } else { Device::Cpu }),
            _ => {
                let index =
                    name.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0"));
                let Some(index) = index.and_then(|index| index.parse::<usize>().ok()) else {
                    return Err(Error::setting(
                        "--device",
                        format!("{name} is not a device"),
                        "use auto, cpu or cuda:N",
                    ));
                };
                if index < gpus {
                    return Ok(Device::Cuda(index));
                }
                Err(Error::setting(
                    "--device",
                    format!("{name} was asked for, but libtorch sees {gpus} CUDA devices"),
                    "`picker doctor` shows what libtorch sees; --device cpu runs on the processor",
                ))
            }
        }
    }

    pub(super) fn is_cpu(self) -> bool {
        self == Device::Cpu
    }

    pub(super) fn tch(self) -> tch::Device {
        match self {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => tch::Device::Cuda(index),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Device::Cpu => write!(f, "cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// What libtorch offers on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct Libtorch {
    /// The version this program was built for and that was loaded.
    pub version: &'static str,
    /// CUDA devices that libtorch sees.
    pub cuda_devices: usize,
    /// Whether the processor multiplies bf16 faster than f32.
    pub fast_bf16: bool,
}

impl Libtorch {
    /// Asks libtorch.
    pub fn query() -> Libtorch {
        Libtorch {
            version: LIBTORCH_VERSION,
            cuda_devices: cuda_devices(),
            fast_bf16: has_fast_bf16(),
        }
    }
}

/// The release that `tch` is bound to; another one does not link.
pub const LIBTORCH_VERSION: &str = "2.13.0";

fn cuda_devices() -> usize {
    if tch::Cuda::is_available() { tch::Cuda::device_count().max(0) as usize } else { 0 }
}

/// Whether the processor has instructions for bf16 products.
pub(super) fn has_fast_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Sets how many threads libtorch uses in the calling thread's operations.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(threads as i32);
}
