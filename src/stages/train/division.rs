//! Labelled micrographs → those that are trained on, and those that decide over the model.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::labelled::{Event, Item};
use crate::error::{Error, Result};
use crate::units::counted;

/// Sets a share aside, drawn with the seed: at least one micrograph, unless none would be left.
pub(super) fn draw(items: Vec<Item>, share: f64, seed: u64) -> (Vec<Item>, Vec<Item>) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    set_aside(items, share, &order)
}

/// Sets a share of the items aside, the first ones in `order`.
fn set_aside(mut items: Vec<Item>, share: f64, order: &[usize]) -> (Vec<Item>, Vec<Item>) {
    if items.len() < 2 || order.is_empty() {
        return (items, Vec::new());
    }
    let most = order.len().min(items.len() - 1);
    let count = ((items.len() as f64 * share).round() as usize).clamp(1, most);
    let mut aside = vec![false; items.len()];
    order.iter().take(count).for_each(|i| aside[*i] = true);
    let mut chosen = aside.into_iter();
    let validation = items.extract_if(.., |_| chosen.next().unwrap_or(false)).collect();
    (items, validation)
}

/// The same of micrographs labelled by hand: complete ones tell most, but one is needed to learn the
/// background from, and one without particles tells nothing. Where none may be set aside, the one
/// with the most particles is the first to be trained on, for a part of it to be.
///
/// The order depends on each micrograph's name and the seed alone. When more micrographs are labelled, those
/// that a former model was trained on are therefore not set aside for judging it, or rarely.
pub(super) fn by_hand(mut items: Vec<Item>, share: f64, seed: u64) -> (Vec<Item>, Vec<Item>) {
    let has_particles = |item: &Item| !item.points.is_empty();
    let complete = items.iter().filter(|item| item.is_complete()).count();
    let best = items.iter().filter(|item| item.is_complete() && has_particles(item)).count();
    if complete > 1 && best > 0 {
        // Not all of them: a complete one stays.
        let share = share.min((complete - 1) as f64 / items.len() as f64);
        let order = order_of(&items, seed, |item| item.is_complete() && has_particles(item));
        return set_aside(items, share, &order);
    }
    let others = items.iter().filter(|item| !item.is_complete() && has_particles(item)).count();
    if others > 1 || (others > 0 && best > 0) {
        let most = if best > 0 { others } else { others - 1 };
        let share = share.min(most as f64 / items.len() as f64);
        let order = order_of(&items, seed, |item| !item.is_complete() && has_particles(item));
        return set_aside(items, share, &order);
    }
    items.sort_by_key(|item| std::cmp::Reverse(item.points.len()));
    (items, Vec::new())
}

/// The items that `may` be set aside, in an order that further items do not change.
fn order_of(items: &[Item], seed: u64, may: impl Fn(&Item) -> bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items.len()).filter(|at| may(&items[*at])).collect();
    order.sort_by_cached_key(|at| rank(&items[*at].source.name, seed));
    order
}

/// Where a micrograph stands among others, whichever these are.
fn rank(name: &str, seed: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

/// What validation is done on, in words.
pub(super) fn describe(
    training: &[Item],
    validation: &[Item],
    drawn: bool,
    observe: &mut dyn FnMut(Event),
) -> Result<String> {
    match (training.len(), validation.len()) {
        (0, _) => Err(Error::missing(
            "every labelled micrograph is named for validation, none is left to train on",
            "name fewer in data.validation",
        )),
        (1, 0) if drawn => {
            let how = format!(
                "the lower quarter of {}, the only labelled micrograph",
                training[0].source.name
            );
            observe(Event::Warning(format!(
                "only one micrograph has labels: its lower quarter is set aside for validation; \
                 the threshold is more reliable with a second labelled micrograph ({how})"
            )));
            Ok(how)
        }
        (_, 0) if drawn => Ok(format!(
            "the lower quarter of {}, the only micrograph with enough labelled particles",
            training[0].source.name
        )),
        (_, 0) => Err(Error::missing(
            "none of the micrographs named in data.validation has coordinates",
            "give their coordinates along with the others in data.coordinates",
        )),
        (_, 1) => Ok(validation[0].source.name.clone()),
        (_, n) => Ok(counted(n, "micrograph")),
    }
}
