//! Devices: a name the user typed → where the network runs; never another one silently.

use std::fmt;

use serde::Serialize;
use tch::{Kind, TchError, Tensor};

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
    fn choose(name: &str) -> Result<Device> {
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
                        "use auto, cpu, cuda:N or several GPUs: cuda:0,cuda:1",
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

    pub(crate) fn tch(self) -> tch::Device {
        match self {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => tch::Device::Cuda(index),
        }
    }
}

/// What a command may use of the machine: devices for the network, and memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    devices: Vec<Device>,
    memory: u64,
}

impl Machine {
    /// Memory that picking may take where none is named: least, and for each thread.
    const MEMORY: (u64, u64) = (3_000_000_000, 1_000_000_000);
    /// The largest share of it that one image's maps in the network may take.
    const MAPS: u64 = 1_200_000_000;

    /// The devices of a list like `cuda:0,cuda:1`; each name as `--device` has it.
    ///
    /// `memory` is in bytes; without it, it goes by the number of threads.
    pub fn choose(names: &str, memory: Option<u64>, threads: usize) -> Result<Machine> {
        let devices =
            names.split(',').map(|name| Device::choose(name.trim())).collect::<Result<Vec<_>>>()?;
        let twice = devices.iter().enumerate().any(|(i, device)| devices[..i].contains(device));
        if devices.len() > 1 && (twice || devices.contains(&Device::Cpu)) {
            return Err(Error::setting(
                "--device",
                format!("{names} cannot work together"),
                "name one device, or several different GPUs",
            ));
        }
        let (least, each) = Machine::MEMORY;
        let memory = memory.unwrap_or_else(|| least.max(each * threads as u64));
        Ok(Machine { devices, memory })
    }

    /// `count` times the processor: more than once, training has as many replicas.
    pub fn cpu(count: usize) -> Machine {
        Machine { devices: vec![Device::Cpu; count.max(1)], memory: Machine::MEMORY.0 }
    }

    /// Where a single network runs.
    pub fn first(&self) -> Device {
        self.devices[0]
    }

    /// All devices; at least one.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Bytes that picking may take.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes that the network's maps of one image may take.
    pub(super) fn maps(&self) -> u64 {
        Machine::MAPS.min(self.memory / 2)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<String> = self.devices.iter().map(Device::to_string).collect();
        f.write_str(&names.join(","))
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
    /// Whether the processor has instructions for bf16 products.
    pub bf16_instructions: bool,
    /// How far a convolution in bf16 is from the same in f32 on the processor, as a share of its
    /// spread; none where libtorch cannot compute it.
    pub bf16_error: Option<f64>,
}

impl Libtorch {
    /// Asks libtorch.
    pub fn query() -> Libtorch {
        Libtorch {
            version: LIBTORCH_VERSION,
            cuda_devices: cuda_devices(),
            bf16_instructions: has_bf16_instructions(),
            bf16_error: bf16_error(Device::Cpu),
        }
    }
}

/// The release that `tch` is bound to; another one does not link.
pub const LIBTORCH_VERSION: &str = "2.13.0";

fn cuda_devices() -> usize {
    if tch::Cuda::is_available() { tch::Cuda::device_count().max(0) as usize } else { 0 }
}

/// Whether the network is to compute in bf16 unless told otherwise: the device has to have it, and
/// to come to what f32 comes to.
pub(super) fn prefers_bf16(device: Device) -> bool {
    /// Twice what 8 significant bits come to when sums are kept in f32.
    const TOLERANCE: f64 = 0.05;
    (!device.is_cpu() || has_bf16_instructions())
        && bf16_error(device).is_some_and(|error| error < TOLERANCE)
}

fn has_bf16_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The largest difference between a small convolution in bf16 and in f32, as a share of its spread.
fn bf16_error(device: Device) -> Option<f64> {
    let _no_gradients = tch::no_grad_guard();
    // Numbers of its own: libtorch's random ones belong to the seed of the run.
    let numbers = |shape: &[i64]| {
        let count = shape.iter().product::<i64>();
        let ramp = Tensor::f_arange(count, (Kind::Float, device.tch()))?;
        ramp.f_mul_scalar(0.7)?.f_sin()?.f_view(shape)
    };
    let difference = || -> Result<f64, TchError> {
        let (image, kernel) = (numbers(&[1, 16, 24, 24])?, numbers(&[16, 16, 3, 3])?);
        let convolved = |kind: Kind| {
            let (image, kernel) = (image.f_to_kind(kind)?, kernel.f_to_kind(kind)?);
            let none: Option<Tensor> = None;
            image.f_conv2d(&kernel, none, [1, 1], [1, 1], [1, 1], 1)?.f_to_kind(Kind::Float)
        };
        let plain = convolved(Kind::Float)?;
        let worst = convolved(Kind::BFloat16)?.f_sub(&plain)?.f_abs()?.f_max()?;
        Ok(worst.f_div(&plain.f_std(false)?)?.double_value(&[]))
    };
    difference().ok()
}

/// Sets how many threads libtorch uses in the calling thread's operations.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(threads as i32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_cannot_work_together_are_refused() {
        assert_eq!(Machine::choose("cpu", None, 2).unwrap(), Machine::cpu(1));
        assert!(Machine::choose("cpu,cpu", None, 2).is_err());
        let absent = Machine::choose("cuda:97,cuda:98", None, 2).unwrap_err().to_string();
        assert!(absent.contains("cuda:97 was asked for"), "{absent}");
    }

    #[test]
    fn memory_goes_by_the_threads_unless_it_is_named() {
        let memory = |memory, threads| Machine::choose("cpu", memory, threads).unwrap().memory();
        assert_eq!(memory(None, 2), 3_000_000_000);
        assert_eq!(memory(None, 16), 16_000_000_000);
        assert_eq!(memory(Some(7), 16), 7);
    }

    #[test]
    fn bf16_comes_to_what_f32_comes_to() {
        let error = bf16_error(Device::Cpu).unwrap();
        assert!(error > 0.0 && error < 0.05, "{error}");
    }
}
