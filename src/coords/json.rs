//! EMAN2 JSON: centres of boxes in whole px, without scores, y from the first row of the file.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

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
        read(path)
    }

    fn write(&self, path: &Path, own: &Coordinates, _box_size_px: Option<u32>) -> Result<()> {
        write(path, &own.points)
    }
}

/// EMAN2's `info/*_info.json`, the part that holds boxes: centres and how they were made.
#[derive(Serialize)]
struct Info {
    boxes: Vec<(f64, f64, Value)>,
}

/// Centres, each followed by how it was made and perhaps by more.
fn read(path: &Path) -> Result<Content> {
    const EXPECTED: &str = "expected EMAN2's {\"boxes\": [[x, y, \"manual\"], …]}";
    let text = read_text(path)?;
    let info: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(|e| {
        let what = format!("not an object of JSON: {e}");
        match e.classify() {
            serde_json::error::Category::Data => Error::unusable(path, what, EXPECTED),
            _ => Error::malformed(path, e.line(), what, EXPECTED),
        }
    })?;
    let Some(boxes) = info.get("boxes") else {
        if path.to_string_lossy().ends_with("_info.json") {
            // EMAN2 has such a file for every micrograph, also where nobody has picked.
            return Ok(Content::of(Vec::new(), false));
        }
        return Err(Error::unusable(path, "it holds no boxes", EXPECTED));
    };
    let broken = |what: &str| Error::malformed(path, None, what, EXPECTED);
    let boxes = boxes.as_array().ok_or_else(|| broken("boxes is not a list"))?;
    let point = |(index, one): (usize, &Value)| {
        let number = |at: usize| one.get(at).and_then(Value::as_f64);
        number(0)
            .zip(number(1))
            .map(|(x, y)| Coordinate { x_mic_px: x, y_mic_px: y, score: None })
            .ok_or_else(|| broken(&format!("box {} does not begin with two numbers", index + 1)))
    };
    let points = boxes.iter().enumerate().map(point).collect::<Result<_>>()?;
    Ok(Content::of_one(path, points))
}

fn write(path: &Path, points: &[Coordinate]) -> Result<()> {
    let centre =
        |p: &Coordinate| (whole(p.x_mic_px) as f64, whole(p.y_mic_px) as f64, "manual".into());
    let info = Info { boxes: points.iter().map(centre).collect() };
    let text = serde_json::to_string(&info)
        .map_err(|e| Error::malformed(path, None, e.to_string(), "use finite coordinates"))?;
    publish_text(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_may_have_more_values_and_a_file_without_boxes_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        let text = "{\"boxes\":[[1,2,\"auto\",0.93],[3.5,4]],\"quality\":5}";
        let content = read("a_info.json", text).unwrap();
        assert_eq!(content.coordinates[0].points.len(), 2);
        assert_eq!(content.coordinates[0].points[1].x_mic_px, 3.5);
        assert!(read("a_info.json", "{\"quality\":5}").unwrap().coordinates.is_empty());
        for (name, text, reason) in [
            ("job.json", "{\"type\":\"import\"}", "no boxes"),
            ("a_info.json", "{\"boxes\":[[1,2],[\"x\",2]]}", "box 2 does not begin"),
            ("a_info.json", "{\"boxes\":[[1,2]", "not an object of JSON"),
        ] {
            assert!(read(name, text).unwrap_err().to_string().contains(reason), "{text}");
        }
    }
}
