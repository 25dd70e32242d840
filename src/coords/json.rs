//! EMAN2 JSON: centres of boxes in whole px, without scores, y from the first row of the file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::boxes::read_text;
use super::format::{Content, CoordinateFormat};
use super::{Coordinate, Coordinates, whole};
use crate::error::{Error, Result};
use crate::publish::publish_text;

/// EMAN2 JSON.
pub(super) struct EmanJson;

impl CoordinateFormat for EmanJson {
    fn name(&self) -> &'static str {
        "json"
    }

    fn title(&self) -> &'static str {
        "EMAN2 JSON"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn read(&self, path: &Path) -> Result<Content> {
        Ok(Content::of_one(path, read(path)?))
    }

    fn write(&self, path: &Path, own: &Coordinates, _box_size_px: Option<u32>) -> Result<()> {
        write(path, &own.points)
    }
}

/// EMAN2's `info/*_info.json`, the part that holds boxes: centres and how they were made.
#[derive(Serialize, Deserialize)]
struct Info {
    boxes: Vec<(f64, f64, serde_json::Value)>,
}

fn read(path: &Path) -> Result<Vec<Coordinate>> {
    let info: Info = serde_json::from_str(&read_text(path)?).map_err(|e| {
        Error::unusable(
            path,
            format!("not a list of boxes: {e}"),
            "expected EMAN2's {\"boxes\": [[x, y, \"manual\"], …]}",
        )
    })?;
    let point = |(x, y, _)| Coordinate { x_mic_px: x, y_mic_px: y, score: None };
    Ok(info.boxes.into_iter().map(point).collect())
}

fn write(path: &Path, points: &[Coordinate]) -> Result<()> {
    let centre =
        |p: &Coordinate| (whole(p.x_mic_px) as f64, whole(p.y_mic_px) as f64, "manual".into());
    let info = Info { boxes: points.iter().map(centre).collect() };
    let text = serde_json::to_string(&info)
        .map_err(|e| Error::malformed(path, None, e.to_string(), "use finite coordinates"))?;
    publish_text(path, &text)
}
