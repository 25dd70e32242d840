//! Workers: one micrograph each, from its file to its picks → results in the order of the list.
//!
//! A worker on a thread of its own has no one to wait for, so that all processors are busy all the
//! time; splitting one image's network over threads leaves them idle at every layer's end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use crate::error::{Error, Result};
use crate::model::device;
use crate::run::Cancel;

/// Most workers: each holds a micrograph and the network's maps of it in memory.
const MOST: usize = 8;

/// How many workers there are, and the threads of each, for so many threads in all; no device is
/// left without a worker.
fn divided(threads: usize, devices: usize) -> (usize, usize) {
    let workers = threads.clamp(1, MOST).max(devices);
    (workers, (threads / workers).max(1))
}

/// How many items are worked on at a time.
pub(crate) fn workers(devices: usize) -> usize {
    divided(rayon::current_num_threads(), devices).0
}

/// Does `work` for each item, and hands the results to `take` in the order of the items.
///
/// `equip` makes what the worker of a number needs for itself; there are at least as many workers
/// as `devices`. Ends early when `take` fails or `cancel` is
/// requested; what a worker has in hand is finished first.
pub(crate) fn in_order<T: Sync, W: Send, R: Send>(
    items: &[T],
    devices: usize,
    equip: impl Fn(usize) -> Result<W>,
    work: impl Fn(&W, usize, &T) -> R + Sync,
    mut take: impl FnMut(usize, R) -> Result<()>,
    cancel: &Cancel,
) -> Result<()> {
    let (workers, threads) = divided(rayon::current_num_threads(), devices);
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (next, stopped, work) = (&next, &stopped, &work);
    std::thread::scope(|scope| {
        let (sender, results) = sync_channel(workers);
        for worker in 0..workers.min(items.len()) {
            let (equipment, sender) = (equip(worker)?, sender.clone());
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.map_err(|error| {
                Error::setting("machine.threads", error.to_string(), "use fewer threads")
            })?;
            scope.spawn(move || {
                pool.install(move || {
                    device::set_threads(threads);
                    while !stopped.load(Ordering::SeqCst) && !cancel.requested() {
                        let index = next.fetch_add(1, Ordering::SeqCst);
                        let Some(item) = items.get(index) else { break };
                        if sender.send((index, work(&equipment, index, item))).is_err() {
                            break;
                        }
                    }
                });
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        let mut ended = Ok(());
        for (index, result) in results {
            early.insert(index, result);
            while let Some(result) = early.remove(&due) {
                if ended.is_ok() {
                    ended = take(due, result);
                    stopped.fetch_or(ended.is_err(), Ordering::SeqCst);
                }
                due += 1;
            }
        }
        if ended.is_ok() && due < items.len() { Err(Error::Interrupted) } else { ended }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_whoever_is_first() {
        let items: Vec<u64> = (0..50).collect();
        let work = |(): &(), _: usize, item: &u64| {
            std::thread::sleep(std::time::Duration::from_millis(item * 7 % 5));
            *item
        };
        let mut taken = Vec::new();
        let take = |index: usize, item: u64| {
            assert_eq!(index as u64, item);
            taken.push(item);
            Ok(())
        };
        in_order(&items, 1, |_| Ok(()), work, take, &Cancel::default()).unwrap();
        assert_eq!(taken, items);
    }

    #[test]
    fn a_failure_or_the_wish_to_stop_ends_the_work() {
        let items: Vec<usize> = (0..1000).collect();
        let done = AtomicUsize::new(0);
        let work = |(): &(), _: usize, item: &usize| {
            // Slow enough that a busy machine cannot do them all before the refusal is noticed.
            std::thread::sleep(std::time::Duration::from_millis(5));
            done.fetch_add(1, Ordering::SeqCst);
            *item
        };
        let refuse =
            |index: usize, _: usize| if index < 3 { Ok(()) } else { Err(Error::Interrupted) };
        assert!(in_order(&items, 1, |_| Ok(()), work, refuse, &Cancel::default()).is_err());
        assert!(done.load(Ordering::SeqCst) < 1000);
        let cancel = Cancel::default();
        cancel.request();
        let ended = in_order(&items, 1, |_| Ok(()), work, |_, _| Ok(()), &cancel);
        assert!(matches!(ended, Err(Error::Interrupted)));
    }

    #[test]
    fn threads_are_divided_without_rest_to_spare() {
        let on_one = |threads| divided(threads, 1);
        assert_eq!([1, 2, 8, 20, 64].map(on_one), [(1, 1), (2, 1), (8, 1), (8, 2), (8, 8)]);
    }

    #[test]
    fn every_device_has_a_worker_however_few_threads_there_are() {
        assert_eq!((divided(1, 2), divided(3, 2), divided(64, 10)), ((2, 1), (3, 1), (10, 6)));
        let (items, workers) = ([(); 4], std::sync::Mutex::new(Vec::new()));
        let equip = |worker: usize| {
            workers.lock().unwrap().push(worker);
            Ok(())
        };
        in_order(&items, 3, equip, |(), _, ()| (), |_, ()| Ok(()), &Cancel::default()).unwrap();
        assert!(workers.into_inner().unwrap().starts_with(&[0, 1, 2]));
    }
}
