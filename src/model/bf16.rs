//! bf16: whether a device computes in it about as accurately and at least about as fast as in f32.
//!
//! libtorch computes in bf16 on every device, but older ones take much longer for it than for f32:
//! GPUs before compute capability 8.0, and processors whose instructions for it are missing or are
//! switched off. `tch` tells neither, so a small convolution is timed once for each device.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tch::{Kind, TchError, Tensor};

use super::Device;

/// What was measured of bf16 on a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bf16 {
    /// Whether the processor has instructions for its products; not known of GPUs.
    pub instructions: Option<bool>,
    /// How far a convolution in bf16 is from the same in f32, as a share of its spread; none where
    /// libtorch cannot compute it.
    pub error: Option<f64>,
    /// How many times as long it takes as the same in f32; none where that decides nothing.
    pub slowdown: Option<f64>,
}

impl Bf16 {
    /// Twice what 8 significant bits come to when sums are kept in f32.
    const MOST_ERROR: f64 = 0.05;
    /// Far from what was measured on a busy processor with AMX (0.55 to 0.65) and on the same one
    /// limited to AVX-512 (3.4) and to AVX2 (40), so that the choice does not change from run to
    /// run.
    const MOST_SLOWDOWN: f64 = 1.5;
    /// So often each format is timed at most; the shortest time counts.
    const ROUNDS: usize = 5;

    /// Of a device, measured when it is first asked for.
    pub fn of(device: Device) -> Bf16 {
        static MEASURED: Mutex<Vec<(Device, Bf16)>> = Mutex::new(Vec::new());
        let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = measured.iter().find(|(other, _)| *other == device) {
            return *known;
        }
        let found = Bf16::measure(device);
        measured.push((device, found));
        found
    }

    /// Whether the network computes in bf16 unless told otherwise.
    pub fn is_used(&self) -> bool {
        self.is_accurate() && self.slowdown.is_some_and(|slowdown| slowdown < Bf16::MOST_SLOWDOWN)
    }

    fn is_accurate(&self) -> bool {
        self.instructions != Some(false) && self.error.is_some_and(|error| error < Bf16::MOST_ERROR)
    }

    fn measure(device: Device) -> Bf16 {
        let _no_gradients = tch::no_grad_guard();
        let instructions = device.is_cpu().then(has_instructions);
        let accuracy = Bf16 { instructions, error: error(device).ok(), slowdown: None };
        if !accuracy.is_accurate() {
            return accuracy;
        }
        Bf16 { slowdown: slowdown(device).ok(), ..accuracy }
    }
}

fn has_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// An image and a kernel of so many features, in a number format.
fn operands(device: Device, features: i64, side: i64, kind: Kind) -> Result<[Tensor; 2], TchError> {
    // Numbers of its own: libtorch's random ones belong to the seed of the run.
    let numbers = |shape: [i64; 4]| {
        let count = shape.iter().product::<i64>();
        let ramp = Tensor::f_arange(count, (Kind::Float, device.tch()))?;
        ramp.f_mul_scalar(0.7)?.f_sin()?.f_view(shape)?.f_to_kind(kind)
    };
    Ok([numbers([1, features, side, side])?, numbers([features, features, 3, 3])?])
}

fn convolved([image, kernel]: &[Tensor; 2]) -> Result<Tensor, TchError> {
    let none: Option<Tensor> = None;
    image.f_conv2d(kernel, none, [1, 1], [1, 1], [1, 1], 1)
}

/// The largest difference between a small convolution in bf16 and in f32, as a share of its spread.
fn error(device: Device) -> Result<f64, TchError> {
    let of = |kind| convolved(&operands(device, 16, 24, kind)?)?.f_to_kind(Kind::Float);
    let plain = of(Kind::Float)?;
    let worst = of(Kind::BFloat16)?.f_sub(&plain)?.f_abs()?.f_max()?;
    Ok(worst.f_div(&plain.f_std(false)?)?.double_value(&[]))
}

/// The time that a convolution takes in bf16 over that in f32.
fn slowdown(device: Device) -> Result<f64, TchError> {
    if !device.is_cpu() {
        return slowdown_at(device, 64, 256);
    }
    // On one thread: where others share the processors, several wait for each other longer than
    // they compute. A thread of its own, since libtorch keeps the number for each.
    let threads = tch::get_num_threads();
    let timed = || {
        tch::set_num_threads(1);
        let _no_gradients = tch::no_grad_guard();
        let slowdown = slowdown_at(device, 32, 32);
        // Threads that libtorch has not seen yet begin with the number that was set last.
        tch::set_num_threads(threads);
        slowdown
    };
    let joined = std::thread::scope(|scope| scope.spawn(timed).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The same with so many features on so many pixels a side: large enough that computing takes
/// longer than calling.
fn slowdown_at(device: Device, features: i64, side: i64) -> Result<f64, TchError> {
    let [f32, bf16] = [Kind::Float, Kind::BFloat16].map(|kind| {
        let operands = operands(device, features, side, kind);
        move || {
            let operands = operands.as_ref().map_err(|e| TchError::Torch(e.to_string()))?;
            let started = Instant::now();
            let _result = convolved(operands)?;
            if let Device::Cuda(index) = device {
                tch::Cuda::synchronize(index as i64);
            }
            Ok(started.elapsed())
        }
    });
    ratio(f32, bf16)
}

/// The shortest time of the second over the shortest of the first, taken in turns, so that what
/// else the machine does hits both alike.
fn ratio<E>(
    mut first: impl FnMut() -> Result<Duration, E>,
    mut second: impl FnMut() -> Result<Duration, E>,
) -> Result<f64, E> {
    // The first call of each plans the computation.
    let (_, _) = (first()?, second()?);
    let mut shortest = [Duration::MAX; 2];
    let mut ratio = f64::INFINITY;
    for round in 0..Bf16::ROUNDS {
        // Where the second takes this much longer, there is nothing to be gained by waiting for it.
        if round > 1 && ratio > 4.0 * Bf16::MOST_SLOWDOWN {
            break;
        }
        shortest = [shortest[0].min(first()?), shortest[1].min(second()?)];
        ratio = shortest[1].as_secs_f64() / shortest[0].as_secs_f64().max(1e-9);
    }
    Ok(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_used_where_it_is_accurate_and_not_slow() {
        let used = |instructions, error, slowdown| Bf16 { instructions, error, slowdown }.is_used();
        // Processors with and without instructions, and one whose instructions are switched off.
        assert!(used(Some(true), Some(0.01), Some(0.6)));
        assert!(!used(Some(false), Some(0.01), None));
        assert!(!used(Some(true), Some(0.01), Some(20.0)));
        // GPUs since 2020, before, and without it.
        assert!(used(None, Some(0.01), Some(0.5)));
        assert!(!used(None, Some(0.01), Some(4.0)));
        assert!(!used(None, None, None) && !used(None, Some(0.01), None));
        assert!(!used(None, Some(0.2), Some(0.5)));
        // Small differences in time decide nothing.
        assert!(used(None, Some(0.01), Some(1.3)));
    }

    #[test]
    fn the_shortest_times_count_and_the_first_call_of_each_does_not() {
        let fake = |times: [u64; 6]| {
            let mut times = times.into_iter().map(Duration::from_millis);
            move || times.next().ok_or("called too often")
        };
        let (f32, bf16) = (fake([0, 9, 2, 9, 9, 9]), fake([90, 9, 9, 9, 3, 9]));
        assert_eq!(ratio(f32, bf16).unwrap(), 1.5);
        // Called three times alone.
        let mut times = [0, 1, 1].map(Duration::from_millis).into_iter();
        let f32 = || times.next().ok_or("called too often");
        assert_eq!(ratio(f32, fake([0, 80, 70, 1, 1, 1])).unwrap(), 70.0);
        let broken = || Err::<Duration, _>("no such kernel");
        assert!(ratio(fake([1; 6]), broken).is_err());
    }

    #[test]
    fn bf16_comes_to_what_f32_comes_to_and_is_measured_once() {
        let of_cpu = Bf16::of(Device::Cpu);
        let error = of_cpu.error.unwrap();
        assert!(error > 0.0 && error < 0.05, "{error}");
        assert_eq!(of_cpu.slowdown.is_some(), of_cpu.instructions == Some(true));
        // Another measurement would take another time.
        assert_eq!(Bf16::of(Device::Cpu), of_cpu);
    }
}
