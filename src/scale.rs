//! Scale: what was given of particle radius and pixel size, and the model → the radius in px of a
//! micrograph, or why the model cannot be used there.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::micrograph::{self, HeaderPixelSize, Source};
use crate::model::Card;
use crate::units::{PixelSize, Radius};

/// By this share particles may be smaller than a model has learnt them: 8 px where it is 9.5.
const SMALLER: f64 = 0.16;

/// What is known of the size of particles, for all micrographs alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale<'a> {
    /// The particle radius as given; without one, the model's own.
    pub radius: Option<Radius>,
    /// Å/px of micrographs whose STAR file does not say it.
    pub pixel_size: Option<PixelSize>,
    /// The model that the micrographs are for; none while one is trained.
    pub card: Option<&'a Card>,
}

/// The size of particles in one micrograph.
#[derive(Debug, Clone, PartialEq)]
pub struct MicrographScale {
    /// Particle radius in px of the micrograph.
    pub radius_px: f64,
    /// Its pixel size, where anything says it.
    pub pixel_size: Option<PixelSize>,
    /// A warning where two sources of the pixel size contradict each other.
    pub doubt: Option<String>,
}

impl<'a> Scale<'a> {
    /// The same for micrographs of a model.
    #[must_use]
    pub fn with_model(self, card: &'a Card) -> Scale<'a> {
        Scale { card: Some(card), ..self }
    }

    /// All of it that a result depends on, for hashing.
    pub fn key(&self) -> impl Serialize + use<> {
        let of_model = self.card.map(|card| (card.particle_radius_px, card.pixel_size_a));
        (self.radius, self.pixel_size, of_model)
    }

    /// The size of particles in a micrograph whose header declares this pixel size.
    pub fn of(&self, source: &Source, header: HeaderPixelSize) -> Result<MicrographScale> {
        let (pixel_size, doubt) = micrograph::pixel_size(source, self.pixel_size, header);
        let radius_px = match (self.radius, self.card) {
            (Some(given), _) => given.in_px(pixel_size).map_err(|error| because(error, header))?,
            (None, Some(card)) => own_radius(card, pixel_size)?,
            (None, None) => return Err(Error::no_radius()),
        };
        self.card.map_or(Ok(()), |card| check(card, radius_px))?;
        Ok(MicrographScale { radius_px, pixel_size, doubt })
    }
}

/// Says why a header that holds a number gives no pixel size.
fn because(error: Error, header: HeaderPixelSize) -> Error {
    match (error, header.doubt()) {
        (Error::Missing { what, hint }, Some(doubt)) => {
            Error::missing(format!("{what}: {doubt}"), hint)
        }
        (error, _) => error,
    }
}

/// Refuses particles that are smaller than the model can find.
fn check(card: &Card, radius_px: f64) -> Result<()> {
    let (seen, learnt) = (card.preprocess.radius_work_px(radius_px), card.learnt_radius_work_px());
    if (seen / learnt - 1.0).abs() <= SMALLER {
        return Ok(());
    }
    Err(Error::setting(
        "scale",
        format!(
            "particles of radius {radius_px:.1} px are too small: the model was trained at \
             {learnt:.1} px"
        ),
        "use micrographs with less binning, or train a model on these",
    ))
}

/// The radius that the model was trained with, if the micrograph is of the same scale.
fn own_radius(card: &Card, pixel_size: Option<PixelSize>) -> Result<f64> {
    let own = card.radius_px()?;
    match (card.pixel_size_a, pixel_size) {
        (Some(trained), Some(here)) if here.differs_from(trained) => {
            let radius = here.px_from_a(trained.a_from_px(own));
            Err(Error::setting(
                "scale",
                format!(
                    "the model was trained at {:.4} Å/px (radius {own:.1} px), this micrograph has \
                     {:.4} Å/px",
                    trained.0, here.0
                ),
                format!(
                    "if both are correct, give data.particle_radius_px {radius:.1}; otherwise \
                     give the correct data.pixel_size_a"
                ),
            ))
        }
        _ => Ok(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn source(pixel_size: Option<f64>) -> Source {
        let name = "m.mrc".to_string();
        let (path, stem) = (name.clone().into(), "m".into());
        Source { path, name, stem, pixel_size: pixel_size.map(PixelSize) }
    }

    #[test]
    fn a_scale_free_model_takes_the_radius_that_is_given_and_has_no_other() {
        let card = Origin::Default.card().unwrap();
        assert!(card.is_scale_free());
        let radius_px = |radius, size: Option<f64>| {
            let scale = Scale { radius, pixel_size: size.map(PixelSize), card: Some(&card) };
            scale.of(&source(None), HeaderPixelSize::Absent).map(|own| own.radius_px)
        };
        assert_eq!(radius_px(Some(Radius::Px(42.0)), None).unwrap(), 42.0);
        assert_eq!(radius_px(Some(Radius::Px(8.0)), Some(1.0)).unwrap(), 8.0);
        assert_eq!(radius_px(Some(Radius::Angstrom(60.0)), Some(1.5)).unwrap(), 40.0);
        for (radius, reason) in [
            (None, "radius is not given"),
            (Some(Radius::Px(7.9)), "too small"),
            (Some(Radius::Angstrom(60.0)), "pixel size is not known"),
        ] {
            let error = radius_px(radius, None).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_placeholder_in_the_header_gives_no_scale_and_is_named() {
        let scale = |radius, pixel_size| Scale { radius: Some(radius), pixel_size, card: None };
        let placeholder = HeaderPixelSize::Doubtful(1.0);
        let error = scale(Radius::Angstrom(60.0), None).of(&source(None), placeholder).unwrap_err();
        assert!(error.to_string().contains("the header says 1 Å/px"), "{error}");
        let given = scale(Radius::Angstrom(60.0), Some(PixelSize(1.0)));
        assert_eq!(given.of(&source(None), placeholder).unwrap().radius_px, 60.0);
        let in_px = scale(Radius::Px(60.0), None).of(&source(None), placeholder).unwrap();
        assert_eq!((in_px.radius_px, in_px.pixel_size), (60.0, None));
    }

    #[test]
    fn the_optics_table_decides_over_the_given_pixel_size_and_that_over_the_header() {
        let scale = |pixel_size: Option<f64>| Scale {
            radius: Some(Radius::Angstrom(60.0)),
            pixel_size: pixel_size.map(PixelSize),
            card: None,
        };
        let header = HeaderPixelSize::Measured(PixelSize(3.0));
        let radius = |own, given| scale(given).of(&source(own), header).unwrap().radius_px;
        assert_eq!(radius(Some(1.0), Some(2.0)), 60.0);
        assert_eq!(radius(None, Some(2.0)), 30.0);
        assert_eq!(radius(None, None), 20.0);
    }
}
