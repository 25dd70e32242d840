//! cryoSPARC `.cs`: a table of numpy, one row a particle, with parts of the micrograph's width and
//! height as coordinates. Only read.
//!
//! Programs disagree on the side that y counts from; it is taken from the first row of the file, as in
//! the other formats, and the images decide whether that fits.

use std::collections::BTreeMap;
use std::path::Path;

use npyz::{DType, Field, NpyHeader, Order};

use super::format::{Content, CoordinateFormat};
use super::{Coordinate, Coordinates};
use crate::error::{Error, Result};

/// cryoSPARC `.cs`.
pub(super) struct Cs;

impl CoordinateFormat for Cs {
    fn name(&self) -> &'static str {
        "cs"
    }

    fn title(&self) -> &'static str {
        "cryoSPARC cs"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["cs"]
    }

    fn is_written(&self) -> bool {
        false
    }

    fn read(&self, path: &Path) -> Result<Content> {
        Ok(Content::of(read(path)?, true))
    }

    fn write(&self, path: &Path, _own: &Coordinates, _box_size_px: Option<u32>) -> Result<()> {
        Err(Error::unusable(
            path,
            "cryoSPARC's tables are only read",
            "write star: it imports that",
        ))
    }
}

const NAMES: [&str; 4] = [
    "location/center_x_frac",
    "location/center_y_frac",
    "location/micrograph_shape",
    "location/micrograph_path",
];

fn read(path: &Path) -> Result<Vec<Coordinates>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let damaged = |what: String| {
        Error::malformed(path, None, what, "the file is damaged or was cut short; export it again")
    };
    let declared = match bytes.get(..12) {
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, low, high, ..]) => {
            10 + usize::from(u16::from_le_bytes([*low, *high]))
        }
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', _, _, a, b, c, d]) => {
            12_usize.saturating_add(u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        _ => {
            return Err(Error::unusable(
                path,
                "not a table of numpy, as cryoSPARC writes them",
                "give a .cs file of particles",
            ));
        }
    };
    if declared > bytes.len() {
        return Err(damaged("its header is cut short".into()));
    }
    let mut rest = bytes.as_slice();
    let header = NpyHeader::from_reader(&mut rest).map_err(|e| damaged(e.to_string()))?;
    let DType::Record(fields) = header.dtype() else {
        return Err(Error::unusable(path, "numbers without names", "give a .cs file of particles"));
    };
    let (columns, row_bytes) =
        layout(&fields).ok_or_else(|| damaged("its fields are unclear".into()))?;
    let column = |name: &str| columns.get(name).copied();
    let [Some(x), Some(y), Some(shape), Some(name)] = NAMES.map(column) else {
        let lacks: Vec<&str> =
            NAMES.into_iter().filter(|name| !columns.contains_key(name)).collect();
        return Err(Error::unusable(
            path,
            format!("it has no {}", lacks.join(", ")),
            "cryoSPARC keeps them in the file whose name says passthrough, or in that of the \
             picking or extraction job",
        ));
    };
    let [rows] = *header.shape() else {
        return Err(damaged("it is not a list of rows".into()));
    };
    let needed = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(row_bytes));
    if needed.is_none_or(|needed| needed > rest.len()) || header.order() != Order::C {
        return Err(damaged(format!(
            "{rows} rows of {row_bytes} bytes are declared, {} bytes follow",
            rest.len()
        )));
    }
    let mut found: BTreeMap<String, Vec<Coordinate>> = BTreeMap::new();
    let unclear = |row: usize, what: &str| damaged(format!("row {}: {what}", row + 1));
    for (index, row) in rest.chunks_exact(row_bytes).take(rows as usize).enumerate() {
        let number = |column: Column, at: usize| {
            column.number(row, at).ok_or_else(|| unclear(index, "not a number"))
        };
        let (height, width) = (number(shape, 0)?, number(shape, 1)?);
        let (x, y) = (number(x, 0)?, number(y, 0)?);
        let near = -1.0..=2.0;
        if !near.contains(&x) || !near.contains(&y) || width < 1.0 || height < 1.0 {
            return Err(unclear(
                index,
                &format!("({x}, {y}) of {width}×{height} px is not a position"),
            ));
        }
        let name = name.text(row).ok_or_else(|| unclear(index, "no name of a micrograph"))?;
        found.entry(name).or_default().push(Coordinate {
            x_mic_px: x * width,
            y_mic_px: y * height,
            score: None,
        });
    }
    Ok(found.into_iter().map(|(name, points)| Coordinates::new(name, points)).collect())
}

/// A value in a row.
#[derive(Clone, Copy)]
struct Column {
    at: usize,
    /// Of one number, or of the text.
    bytes: usize,
    /// `f`, `i`, `u` or `S`.
    kind: char,
    big: bool,
    count: usize,
}

impl Column {
    fn number(self, row: &[u8], index: usize) -> Option<f64> {
        if index >= self.count {
            return None;
        }
        let mut raw = row.get(self.at + index * self.bytes..)?.get(..self.bytes)?.to_vec();
        if self.big {
            raw.reverse();
        }
        let value = match (self.kind, raw.as_slice()) {
            ('f', [a, b, c, d]) => f64::from(f32::from_le_bytes([*a, *b, *c, *d])),
            ('f', all) => f64::from_le_bytes(all.try_into().ok()?),
            ('u' | 'i', all) if all.len() <= 8 => {
                let mut wide = [0; 8];
                wide[..all.len()].copy_from_slice(all);
                u64::from_le_bytes(wide) as f64
            }
            _ => return None,
        };
        value.is_finite().then_some(value)
    }

    fn text(self, row: &[u8]) -> Option<String> {
        let raw = row.get(self.at..)?.get(..self.bytes)?;
        let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
        let text = std::str::from_utf8(&raw[..end]).ok()?;
        (self.kind == 'S' && !text.is_empty()).then(|| text.to_string())
    }
}

/// Where each field lies in a row, and how long a row is.
fn layout(fields: &[Field]) -> Option<(BTreeMap<&str, Column>, usize)> {
    let (mut columns, mut at) = (BTreeMap::new(), 0_usize);
    for field in fields {
        let size = field.dtype.num_bytes()?;
        let (plain, count) = match &field.dtype {
            DType::Array(count, inner) => (inner.as_ref(), usize::try_from(*count).ok()?),
            other => (other, 1),
        };
        if let DType::Plain(plain) = plain {
            let kind = plain.type_char().to_str().chars().next()?;
            let big = plain.endianness().to_str() == ">";
            let column = Column { at, bytes: plain.num_bytes()?, kind, big, count };
            columns.insert(field.name.as_str(), column);
        }
        at = at.checked_add(size)?;
    }
    (at > 0).then_some((columns, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "{'descr': [('uid', '<u8'), ('location/micrograph_path', '|S12'), \
        ('location/micrograph_shape', '<u4', (2,)), ('location/center_x_frac', '<f4'), \
        ('location/center_y_frac', '>f4')], 'fortran_order': False, 'shape': (2,), }";

    fn table(head: &str, rows: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((head.len() as u16 + 1).to_le_bytes());
        bytes.extend(head.as_bytes());
        bytes.push(b'\n');
        for row in 0..rows {
            bytes.extend(7_u64.to_le_bytes());
            bytes.extend(format!("J1/{row}_a.mrc\0\0").as_bytes());
            bytes.truncate(bytes.len() - (format!("J1/{row}_a.mrc\0\0").len() - 12));
            bytes.extend([300_u32, 400].map(u32::to_le_bytes).concat());
            bytes.extend(0.25_f32.to_le_bytes());
            bytes.extend(0.5_f32.to_be_bytes());
        }
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Vec<Coordinates>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.cs");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn parts_of_width_and_height_become_px_of_the_named_micrograph() {
        let read = read_bytes(&table(HEAD, 2)).unwrap();
        let names: Vec<&str> = read.iter().map(|own| own.micrograph.as_str()).collect();
        assert_eq!(names, ["J1/0_a.mrc", "J1/1_a.mrc"]);
        // The shape is rows by columns.
        assert_eq!((read[0].points[0].x_mic_px, read[0].points[0].y_mic_px), (100.0, 150.0));
    }

    #[test]
    fn tables_of_other_things_and_cut_ones_are_named_for_what_they_are() {
        let reason = |bytes: &[u8]| read_bytes(bytes).unwrap_err().to_string();
        let other = HEAD.replace("center_x_frac", "exp_group_id");
        assert!(reason(&table(&other, 2)).contains("it has no location/center_x_frac"));
        let whole = table(HEAD, 2);
        assert!(reason(&whole[..whole.len() - 1]).contains("2 rows of 36 bytes are declared"));
        assert!(reason(&whole[..40]).contains("cut short"));
        assert!(reason(b"PK\x03\x04 and more bytes").contains("not a table of numpy"));
        let many = HEAD.replace("(2,), }", "(18446744073709551615,), }");
        assert!(reason(&table(&many, 2)).contains("are declared"));
    }
}
