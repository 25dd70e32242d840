//! The flags that say how coordinates are to be read: units, axes, origin.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::coords::reading::{Reading, Unit};
use crate::coords::{self, Coordinates};
use crate::error::{Error, Result};
use crate::micrograph::{self, Source};
use crate::units::Shape;

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum UnitGiven {
    /// Micrograph px
    Px,
    /// Å; the pixel size comes from --pixel-size or --micrographs
    A,
    /// nm
    Nm,
    /// Parts of the micrograph's width and height, 0 to 1
    Fraction,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum OriginGiven {
    /// The first pixel of the file
    Corner,
    /// The middle of the micrograph
    Centre,
}

/// What is done to coordinates, in this order; `picker check` names what is needed.
#[derive(Debug, Args)]
pub(super) struct ReadingArgs {
    /// Swap x and y
    #[arg(long)]
    transpose: bool,
    /// What the coordinates are given in
    #[arg(long, value_enum, default_value = "px")]
    unit: UnitGiven,
    /// Å/px of the micrographs, for --unit a and nm [default: that of --micrographs]
    #[arg(long, value_name = "A")]
    pixel_size: Option<f64>,
    /// Multiply coordinates by this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// Multiply x alone by this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale_x: f64,
    /// Multiply y alone by this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale_y: f64,
    /// Where (0, 0) is
    #[arg(long, value_enum, default_value = "corner")]
    origin: OriginGiven,
    /// Mirror x: count it from the other side
    #[arg(long)]
    flip_x: bool,
    /// Mirror y: count it from the other side
    #[arg(long)]
    flip_y: bool,
    /// Add these to x and y, in px: --offset=-3,5
    #[arg(long, value_name = "X,Y", value_parser = pair, allow_hyphen_values = true)]
    offset: Option<(f64, f64)>,
    /// Width of the micrographs in px, if --flip-x, --origin or --unit fraction requires it
    #[arg(long, value_name = "PX")]
    width: Option<usize>,
    /// Height of the micrographs in px, if --flip-y, --origin or --unit fraction requires it
    #[arg(long, value_name = "PX")]
    height: Option<usize>,
    /// The micrographs, from which size and pixel size are read
    #[arg(long, num_args = 1.., value_name = "PATH", conflicts_with_all = ["width", "height"])]
    micrographs: Vec<PathBuf>,
}

fn pair(text: &str) -> std::result::Result<(f64, f64), String> {
    let both = text.split_once(',').and_then(|(x, y)| {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        number(x).zip(number(y))
    });
    both.ok_or_else(|| "give two numbers with a comma: 32,32".into())
}

impl ReadingArgs {
    pub(super) fn check(&self) -> Result<()> {
        for (flag, factor) in
            [("--scale", self.scale), ("--scale-x", self.scale_x), ("--scale-y", self.scale_y)]
        {
            if !(factor > 0.0 && factor.is_finite()) {
                let what = format!("{factor} is not a positive number");
                return Err(Error::setting(flag, what, "2 doubles coordinates"));
            }
        }
        if self.pixel_size.is_some_and(|size| !(size > 0.0 && size.is_finite())) {
            return Err(Error::setting("--pixel-size", "not a positive number", "give Å/px"));
        }
        if !self.micrographs.is_empty() {
            return Ok(());
        }
        let both = self.origin == OriginGiven::Centre || self.unit == UnitGiven::Fraction;
        for (needed, given, size) in [
            (self.flip_x || both, self.width, "--width"),
            (self.flip_y || both, self.height, "--height"),
        ] {
            if needed && given.is_none() {
                return Err(Error::missing(
                    "flips, --origin centre and --unit fraction need the size of the micrographs",
                    format!("add {size} PX or --micrographs PATH"),
                ));
            }
        }
        if matches!(self.unit, UnitGiven::A | UnitGiven::Nm) && self.pixel_size.is_none() {
            return Err(Error::missing(
                "lengths become px by the pixel size, which is not given",
                "add --pixel-size A or --micrographs PATH",
            ));
        }
        Ok(())
    }

    /// Brings coordinates into micrograph px.
    pub(super) fn apply(&self, all: &mut [Coordinates]) -> Result<()> {
        let plain = self.reading(self.pixel_size.unwrap_or(1.0));
        let sizes = if self.micrographs.is_empty() {
            let shape = Shape { width: self.width.unwrap_or(0), height: self.height.unwrap_or(0) };
            vec![(shape, self.pixel_size); all.len()]
        } else if plain.needs_shape() || plain.unit != Unit::Pixel {
            self.sizes(all)?
        } else {
            vec![(Shape { width: 0, height: 0 }, None); all.len()]
        };
        for (own, (shape, pixel_size)) in all.iter_mut().zip(sizes) {
            let reading = self.reading(pixel_size.unwrap_or(1.0));
            for point in &mut own.points {
                (point.x_mic_px, point.y_mic_px) = reading.apply(point, shape);
            }
        }
        if all.iter().flat_map(|own| &own.points).all(coords::is_position) {
            return Ok(());
        }
        Err(Error::setting(
            "--scale",
            format!("{} moves coordinates outside of any possible micrograph", self.scale),
            "2 doubles coordinates",
        ))
    }

    fn reading(&self, pixel_size: f64) -> Reading {
        Reading {
            transpose: self.transpose,
            unit: match self.unit {
                UnitGiven::Px => Unit::Pixel,
                UnitGiven::A => Unit::Angstrom(pixel_size),
                UnitGiven::Nm => Unit::Nanometre(pixel_size),
                UnitGiven::Fraction => Unit::Fraction,
            },
            scale: self.scale,
            stretch: (self.scale_x, self.scale_y),
            centred: self.origin == OriginGiven::Centre,
            flip_x: self.flip_x,
            flip_y: self.flip_y,
            offset: self.offset.unwrap_or_default(),
        }
    }

    /// The micrographs, if they are named.
    pub(super) fn sources(&self) -> Result<Vec<Source>> {
        if self.micrographs.is_empty() {
            return Ok(Vec::new());
        }
        micrograph::named(&self.micrographs)
    }

    /// Size and pixel size of each set's micrograph.
    fn sizes(&self, all: &[Coordinates]) -> Result<Vec<(Shape, Option<f64>)>> {
        let sources = self.sources()?;
        let owners = coords::matching::owners(&sources, all)?;
        let needs_pixel_size = matches!(self.unit, UnitGiven::A | UnitGiven::Nm);
        let mut known = BTreeMap::new();
        let size = |(owner, own): (Option<usize>, &Coordinates)| {
            let index = owner.ok_or_else(|| {
                Error::missing(
                    format!("there is no micrograph for the coordinates of {}", own.micrograph),
                    "give all micrographs to --micrographs, or --width and --height PX if they are \
                     of one size",
                )
            })?;
            if let Some(size) = known.get(&index) {
                return Ok(*size);
            }
            let source = &sources[index];
            let header = micrograph::header(&source.path)?;
            let own_size = source.pixel_size.or(header.pixel_size.measured()).map(|size| size.0);
            let pixel_size = self.pixel_size.or(own_size);
            if needs_pixel_size && pixel_size.is_none() {
                return Err(Error::unusable(
                    &source.path,
                    "it does not say its pixel size",
                    "add --pixel-size A",
                ));
            }
            known.insert(index, (header.shape, pixel_size));
            Ok((header.shape, pixel_size))
        };
        owners.into_iter().zip(all).map(size).collect()
    }
}
