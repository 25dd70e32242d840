//! Devices: a name the user typed → where the network runs; never another one silently.

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::{Bf16, Precision};
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
                        "machine.device",
                        format!("{name} is not a device"),
                        "use auto, cpu, cuda:N or several GPUs: cuda:0,cuda:1",
                    ));
                };
                if index < gpus {
                    return Ok(Device::Cuda(index));
                }
                Err(Error::setting(
                    "machine.device",
                    format!("{name} was asked for, but libtorch sees {gpus} CUDA devices"),
                    "`picker doctor` shows what libtorch sees; cpu uses the CPU",
                ))
            }
        }
    }

    /// Whether it is the processor, whose memory is the machine's.
    pub(crate) fn is_cpu(self) -> bool {
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
    /// Most that one image's maps in the network may take.
    const MAPS: u64 = 1_200_000_000;
    /// Memory of a GPU that maps of all images together may take. `tch` does not give the real
    /// size; this leaves room for libtorch itself on a card of 8 GB.
    pub(crate) const CARD: u64 = 6_000_000_000;

    /// The devices of a list like `cuda:0,cuda:1`; each name as `--device` has it.
    ///
    /// `memory` is in bytes; without it, it goes by the number of threads.
    pub fn choose(names: &str, memory: Option<u64>, threads: usize) -> Result<Machine> {
        let devices =
            names.split(',').map(|name| Device::choose(name.trim())).collect::<Result<Vec<_>>>()?;
        let twice = devices.iter().enumerate().any(|(i, device)| devices[..i].contains(device));
        if devices.len() > 1 && (twice || devices.contains(&Device::Cpu)) {
            return Err(Error::setting(
                "machine.device",
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

    /// A machine that need not be there.
    #[cfg(test)]
    pub(crate) fn imagined(devices: &[Device], memory: u64) -> Machine {
        Machine { devices: devices.to_vec(), memory }
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

    /// Bytes that the network's maps of one image may take on a device of this machine.
    pub(crate) fn maps(&self) -> u64 {
        let memory = if self.first().is_cpu() { self.memory } else { Machine::CARD };
        Machine::MAPS.min(memory / 2)
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
    /// Why there is none.
    pub no_cuda: Option<String>,
    /// The processor, then the GPUs.
    pub devices: Vec<Found>,
}

/// A device, and in which number format the network computes on it.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// As `--device` has it.
    pub device: String,
    /// The number format, unless another one is asked for.
    pub precision: Precision,
    /// What was measured to choose it.
    pub bf16: Bf16,
}

impl Found {
    fn of(device: Device) -> Found {
        let (precision, bf16) = (Precision::Auto.on(device), Bf16::of(device));
        Found { device: device.to_string(), precision, bf16 }
    }
}

impl Libtorch {
    /// Asks libtorch.
    pub fn query() -> Libtorch {
        Libtorch {
            version: LIBTORCH_VERSION,
            cuda_devices: cuda_devices(),
            no_cuda: (cuda_devices() == 0).then(why_no_cuda),
            devices: std::iter::once(Device::Cpu)
                .chain((0..cuda_devices()).map(Device::Cuda))
                .map(Found::of)
                .collect(),
        }
    }
}

/// The release that `tch` is bound to; another one does not link.
pub const LIBTORCH_VERSION: &str = "2.13.0";

/// How libtorch takes a GPU's memory. What it has taken it keeps, so that after a batch that did not
/// fit nothing was left for cuDNN and for kernels, which are loaded when they are first used; without
/// them a smaller batch failed as well.
const ALLOCATOR: (&str, &str) = ("PYTORCH_CUDA_ALLOC_CONF", "per_process_memory_fraction:0.95");
/// The same for all kinds of devices, which someone may have set instead.
const ALLOCATOR_OF_ALL: &str = "PYTORCH_ALLOC_CONF";

fn cuda_devices() -> usize {
    if tch::Cuda::is_available() { tch::Cuda::device_count().max(0) as usize } else { 0 }
}

/// Loads the part of libtorch for CUDA where it is installed, also for a program that was not linked
/// with it. To be called first, before there are threads: libtorch looks for CUDA once, and for its
/// settings in the environment.
#[allow(unsafe_code)] // No other thread can read the environment yet.
pub fn load_cuda() {
    if let Some(library) = cuda_library() {
        let (name, value) = ALLOCATOR;
        if [name, ALLOCATOR_OF_ALL].iter().all(|name| std::env::var_os(name).is_none()) {
            unsafe { std::env::set_var(name, value) };
        }
        // What stands in the way, `why_no_cuda` finds again for those who ask.
        drop(loaded(&library));
    }
}

/// The part for CUDA of the libtorch that this process has loaded; another one would not fit.
fn cuda_library() -> Option<CString> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let folder = paths.find_map(|path| path.strip_suffix("/libtorch_cpu.so"))?;
    let library = format!("{folder}/libtorch_cuda.so");
    Path::new(&library).exists().then(|| CString::new(library).ok())?
}

/// Whether a library can be loaded, or the loader's reason.
#[allow(unsafe_code)] // Libraries of libtorch and of the driver, which are made to be loaded.
fn loaded(library: &CStr) -> std::result::Result<(), String> {
    unsafe {
        if libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            let reason = libc::dlerror();
            let known = !reason.is_null();
            let reason = known.then(|| CStr::from_ptr(reason).to_string_lossy().into_owned());
            return Err(reason.unwrap_or_default());
        }
    }
    Ok(())
}

/// Why libtorch sees no CUDA device, from the library up to the card.
fn why_no_cuda() -> String {
    let Some(library) = cuda_library() else {
        return "this libtorch is for the CPU alone".to_string();
    };
    if let Err(reason) = loaded(&library) {
        return format!("libtorch has CUDA, which cannot be loaded: {reason}");
    }
    if let Err(reason) = loaded(c"libcuda.so.1") {
        return format!("libtorch has CUDA, but there is no NVIDIA driver: {reason}");
    }
    let hidden = std::env::var("CUDA_VISIBLE_DEVICES")
        .map_or(String::new(), |value| format!("; CUDA_VISIBLE_DEVICES is \"{value}\""));
    format!(
        "libtorch has CUDA and there is an NVIDIA driver, but it gives no device: is it one for \
         CUDA 13, and does `nvidia-smi` show a card?{hidden}"
    )
}

/// Sets how many threads libtorch uses in the calling thread's operations.
pub fn set_threads(threads: usize) {
    // At the first operation of a thread, libtorch sets the number that any thread has set last. Asking for
    // the number does that now, so that it cannot undo the next line later.
    tch::get_num_threads();
    tch::set_num_threads(threads as i32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_number_of_threads_whatever_others_set_before_its_first_operation() {
        let kept = std::thread::spawn(|| {
            set_threads(3);
            std::thread::spawn(|| set_threads(1)).join().unwrap();
            tch::get_num_threads()
        });
        assert_eq!(kept.join().unwrap(), 3);
    }

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
    fn maps_on_a_gpu_do_not_depend_on_the_memory_of_the_machine() {
        let maps = |device, memory| Machine::imagined(&[device], memory).maps();
        assert_eq!(maps(Device::Cpu, 1_000_000_000), 500_000_000);
        assert_eq!(maps(Device::Cpu, 64_000_000_000), Machine::MAPS);
        assert_eq!(maps(Device::Cuda(1), 1_000_000_000), Machine::MAPS);
    }
}
