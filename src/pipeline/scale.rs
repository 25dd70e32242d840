//! The particle radius of each micrograph: what the model knows, what is given, and the pixel size →
//! px, or why the model cannot be used there.

use super::Radius;
use crate::error::{Error, Result};
use crate::model::Card;
use crate::units::PixelSize;

/// By this share particles may be smaller than a model has learnt them: 8 px where it is 9.5.
const SMALLER: f64 = 0.16;

/// The particle radius in px of a micrograph, or why the model cannot be used on it.
pub(super) fn radius_for(
    card: &Card,
    given: Option<Radius>,
    pixel_size: Option<PixelSize>,
) -> Result<f64> {
    let radius = match given {
        Some(given) => given.in_px(pixel_size)?,
        None => own_radius(card, pixel_size)?,
    };
    let (seen, learnt) = (card.preprocess.radius_work_px(radius), card.learnt_radius_work_px());
    if (seen / learnt - 1.0).abs() > SMALLER {
        return Err(Error::setting(
            "scale",
            format!(
                "particles of radius {radius:.1} px are too small: the model learnt them at {learnt:.1} px"
            ),
            "use less binned micrographs, or train with the radius in these ones",
        ));
    }
    Ok(radius)
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
                    "the model was trained at {:.4} Å/px (radius {own:.1} px), this micrograph has {:.4} Å/px",
                    trained.0, here.0
                ),
                format!(
                    "if both are right, add --particle-radius {radius:.1}; if not, give the right --pixel-size"
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

    #[test]
    fn a_scale_free_model_takes_the_radius_it_is_told_and_has_no_other() {
        let card = Origin::Default.card().unwrap();
        assert!(card.is_scale_free());
        let told = |radius, size: Option<f64>| radius_for(&card, radius, size.map(PixelSize));
        assert_eq!(told(Some(Radius::Px(42.0)), None).unwrap(), 42.0);
        assert_eq!(told(Some(Radius::Px(8.0)), Some(1.0)).unwrap(), 8.0);
        assert_eq!(told(Some(Radius::Angstrom(60.0)), Some(1.5)).unwrap(), 40.0);
        for (radius, reason) in [
            (None, "radius is not given"),
            (Some(Radius::Px(7.9)), "too small"),
            (Some(Radius::Angstrom(60.0)), "pixel size is not known"),
        ] {
            let error = told(radius, None).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
