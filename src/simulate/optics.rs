//! The contrast transfer function of the microscope: spatial frequency → how much contrast of
//! which sign reaches the image.
//!
//! After Mindell & Grigorieff, J. Struct. Biol. 142 (2003), equations 2–5, without astigmatism:
//! `CTF(k) = −√(1−A²)·sin χ − A·cos χ`, `χ(k) = πλk²(Δf − ½λ²k²Cs)`, Δf > 0 for underfocus, so that
//! protein is darker than ice. The envelope is `exp(−B·k²/4)`.

use std::f64::consts::PI;

use super::Settings;

/// The transfer function at one defocus; lengths in Å, frequencies in 1/Å.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ctf {
    wavelength_a: f64,
    defocus_a: f64,
    cs_a: f64,
    amplitude_contrast: f64,
    b_factor_a2: f64,
}

impl Ctf {
    pub(super) fn new(settings: &Settings, defocus_um: f64) -> Self {
        Ctf {
            wavelength_a: wavelength_a(settings.voltage_kv),
            defocus_a: defocus_um * 1e4,
            cs_a: settings.cs_mm * 1e7,
            amplitude_contrast: settings.amplitude_contrast,
            b_factor_a2: settings.b_factor_a2,
        }
    }

    /// CTF × envelope at the squared frequency `k2` in 1/Å².
    pub(super) fn at(&self, k2: f64) -> f64 {
        let (sin, cos) = self.phase(k2).sin_cos();
        let phase_contrast = (1.0 - self.amplitude_contrast.powi(2)).sqrt();
        -(phase_contrast * sin + self.amplitude_contrast * cos)
            * (-self.b_factor_a2 * k2 / 4.0).exp()
    }

    /// χ in radians.
    fn phase(&self, k2: f64) -> f64 {
        let lambda = self.wavelength_a;
        PI * lambda * k2 * (self.defocus_a - 0.5 * lambda * lambda * k2 * self.cs_a)
    }
}

/// The relativistic electron wavelength in Å.
fn wavelength_a(voltage_kv: f64) -> f64 {
    let volts = voltage_kv * 1e3;
    12.2643 / (volts + 0.978_466e-6 * volts * volts).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctf(settings: &Settings) -> Ctf {
        Ctf::new(settings, 1.5)
    }

    #[test]
    fn the_wavelength_is_that_of_the_tables() {
        for (kv, expected) in [(100.0, 0.037_014), (200.0, 0.025_079), (300.0, 0.019_687)] {
            assert!((wavelength_a(kv) - expected).abs() < 2e-6);
        }
    }

    #[test]
    fn low_frequencies_are_dark_and_carry_the_amplitude_contrast() {
        let settings = Settings::default();
        assert!((ctf(&settings).at(0.0) + settings.amplitude_contrast).abs() < 1e-12);
        assert!(ctf(&settings).at(1.0 / 60.0_f64.powi(2)) < -settings.amplitude_contrast);
    }

    #[test]
    fn the_zeros_lie_where_the_formula_puts_them() {
        // χ = n·π − asin A at the n-th zero. With u = k²: ½λ³Cs·u² − λΔf·u + χ/π = 0.
        let settings = Settings { b_factor_a2: 0.0, ..Settings::default() };
        let (lambda, defocus, cs) =
            (wavelength_a(settings.voltage_kv), 1.5e4, settings.cs_mm * 1e7);
        for n in 1..=8 {
            let turns = f64::from(n) - settings.amplitude_contrast.asin() / PI;
            let (a, b) = (0.5 * lambda.powi(3) * cs, lambda * defocus);
            let k2 = (b - (b * b - 4.0 * a * turns).sqrt()) / (2.0 * a);
            assert!(ctf(&settings).at(k2).abs() < 1e-9, "zero {n} at k² = {k2}");
            assert!(ctf(&settings).at(k2 * 0.99) * ctf(&settings).at(k2 * 1.01) < 0.0);
        }
    }

    #[test]
    fn the_envelope_only_damps() {
        let sharp = Settings { b_factor_a2: 0.0, ..Settings::default() };
        let soft = Settings { b_factor_a2: 200.0, ..Settings::default() };
        let k2 = 1.0 / 8.0_f64.powi(2);
        let ratio = ctf(&soft).at(k2) / ctf(&sharp).at(k2);
        assert!((ratio - (-50.0 * k2).exp()).abs() < 1e-12);
    }
}
