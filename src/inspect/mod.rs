//! Picks in the browser: a server for one page on one run, where a person looks at micrographs,
//! moves the threshold and labels by hand.
//!
//! ```text
//! page/*  ──▶ api ──▶ catalog (micrographs, scores)   labels (STAR files)   picture (JPEG)
//!              │      learning (a training, its model)   proposals (what to label next)
//!              ▲
//!            guard (token, session, Host, Origin)
//! ```
//!
//! The page is a client of the interface (`api`) like any script. Clients name micrographs by ids;
//! no path is ever taken from them. All of the asynchronous code of picker is in this room.

mod api;
mod assets;
mod catalog;
mod excluded;
mod gallery;
mod guard;
mod labels;
mod learning;
mod map;
mod measuring;
mod picking;
mod picture;
mod proposals;
mod scores;
mod serve;
mod sprites;
mod work;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use axum::middleware;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::micrograph::{Source, Stamp};
use crate::model::Machine;
use crate::run::{Cancel, RunDir};
use crate::stages::{card_of_picks, report};
use catalog::Catalog;
use excluded::Excluded;
use gallery::Gallery;
use guard::Guard;
use labels::Labels;
use learning::Learning;
pub use learning::Trainer;
use map::Maps;
use measuring::Measuring;
use picking::Picking;
use picture::Pictures;

/// The port that is tried first where none was asked for.
const FAVOURITE_PORT: u16 = 7878;
/// Micrographs that are decoded at once.
const DECODERS: usize = 2;
/// How often a server that only shows looks whether the picks are others.
const FOLLOWED_EVERY: Duration = Duration::from_secs(1);

/// Micrographs that were named.
#[derive(Debug)]
pub struct Named {
    /// The paths as typed.
    pub paths: Vec<PathBuf>,
    /// The micrographs found there.
    pub sources: Vec<Source>,
}

/// What is to be served, and where.
#[derive(Debug)]
pub struct Options {
    /// The run; taken for this process unless it is only looked into.
    pub run: RunDir,
    /// The micrographs to show; without them, those that the picks are of.
    pub micrographs: Option<Named>,
    /// What picking may use of the machine.
    pub machine: Machine,
    /// The address to listen at.
    pub bind: IpAddr,
    /// The port; without one, a free one is found.
    pub port: Option<u16>,
    /// Whether nothing may be changed.
    pub read_only: bool,
    /// What trains a model, where labels are to be learnt from.
    pub trainer: Option<Trainer>,
}

/// All that requests share.
#[derive(Debug)]
struct Site {
    run: RunDir,
    named: Option<Named>,
    catalog: RwLock<Arc<Catalog>>,
    labels: Labels,
    excluded: Excluded,
    pictures: Pictures,
    decoders: Semaphore,
    gallery: Gallery,
    maps: Maps,
    picking: Picking,
    learning: Learning,
    read_only: bool,
    /// Held while picks and lists are rewritten.
    cutting: Mutex<()>,
    watched: Mutex<Watched>,
    measuring: Measuring,
}

/// What is known of files that another process may change.
#[derive(Debug, Default)]
struct Watched {
    looked: Option<Instant>,
    stamps: Option<[Option<Stamp>; 2]>,
}

impl Site {
    /// The micrographs as they were last looked at.
    fn catalog(&self) -> Result<Arc<Catalog>> {
        if self.read_only {
            self.follow();
        }
        let catalog = self.catalog.read().map_err(|_| Error::internal("the list is lost"))?;
        Ok(catalog.clone())
    }

    /// Looks at the run again, after its picks have changed.
    fn look_again(&self) -> Result<()> {
        let excluded = self.excluded.now();
        let catalog = Arc::new(Catalog::of(&self.run, parts(self.named.as_ref()), &excluded)?);
        let last = self.catalog.read().map_err(|_| Error::internal("the list is lost"))?.clone();
        catalog.take_scores(&last, &self.run);
        *self.catalog.write().map_err(|_| Error::internal("the list is lost"))? = catalog;
        Ok(())
    }

    /// Looks at the run again if another process has changed what it lists.
    fn follow(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let due = watched.looked.is_none_or(|looked| looked.elapsed() >= FOLLOWED_EVERY);
        if !due {
            return;
        }
        watched.looked = Some(Instant::now());
        let stamps = [self.run.list_path(), self.run.excluded_path()];
        let stamps = stamps.map(|path| Stamp::of(&path).ok());
        let is_first = watched.stamps.is_none();
        if watched.stamps.replace(stamps) != Some(stamps) && !is_first {
            let looked = self.excluded.look_again(&self.run).and_then(|()| self.look_again());
            if let Err(error) = looked {
                // Shown as it was; the next look may find it whole.
                tracing::warn!("{error}");
                watched.stamps = Some([None; 2]);
            }
        }
    }

    /// Changes picks and lists, one change at a time, and looks at what is there then.
    fn change<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _one = match self.cutting.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(one)) => one.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::missing("the picks are already being changed", ""));
            }
        };
        let done = work();
        // Lists may have changed even where the end was not reached.
        self.look_again()?;
        let done = done?;
        if self.run.page().exists() {
            report::write(&self.run, &card_of_picks(&self.run)?)?;
        }
        Ok(done)
    }
}

/// The paths and the micrographs found there.
fn parts(named: Option<&Named>) -> Option<(&[PathBuf], &[Source])> {
    named.map(|own| (own.paths.as_slice(), own.sources.as_slice()))
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    bound: SocketAddr,
    guard: Arc<Guard>,
    site: Arc<Site>,
}

impl Server {
    /// Looks at the run and takes the port.
    ///
    /// # Errors
    /// `Missing` where there is nothing to show, `Setting` for a port that cannot be had.
    pub fn open(options: Options) -> Result<Server> {
        let Options { run, micrographs: named, machine, bind, port, read_only, trainer } = options;
        let excluded = Excluded::open(&run)?;
        let catalog = Arc::new(Catalog::of(&run, parts(named.as_ref()), &excluded.now())?);
        if catalog.all.is_empty() {
            return Err(Error::missing(
                format!("{} has no picks to show", run.root().display()),
                "name micrographs, or pick first: `picker pick MICROGRAPHS`",
            ));
        }
        let (listener, bound) = listen(bind, port)?;
        let labels = Labels::open(run.labels(), &catalog.all);
        let learning = Learning::open(&run, trainer, read_only)?;
        let pictures = Pictures::new((!read_only).then(|| run.pictures()));
        let site = Site {
            run,
            named,
            catalog: RwLock::new(catalog),
            labels,
            excluded,
            pictures,
            decoders: Semaphore::new(DECODERS),
            gallery: Gallery::default(),
            maps: Maps::new(machine.clone()),
            picking: Picking::new(machine),
            learning,
            read_only,
            cutting: Mutex::new(()),
            watched: Mutex::default(),
            measuring: Measuring::default(),
        };
        let guard = Arc::new(Guard::new(bound, hostname()));
        Ok(Server { listener, bound, guard, site: Arc::new(site) })
    }

    /// The address that opens the page.
    pub fn url(&self) -> String {
        let shown = match self.bound.ip() {
            ip if ip.is_unspecified() => hostname(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            IpAddr::V4(ip) => ip.to_string(),
        };
        format!("http://{shown}:{}/?token={}", self.bound.port(), self.guard.token())
    }

    /// The token for scripts, which is no part of any address.
    pub fn script_token(&self) -> &str {
        self.guard.script_token()
    }

    /// Where it listens.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// How many micrographs it shows.
    pub fn micrographs(&self) -> usize {
        self.site.catalog().map_or(0, |catalog| catalog.all.len())
    }

    /// Answers until it is asked to stop.
    pub fn serve(self, cancel: &Cancel) -> Result<()> {
        let Server { listener, guard, site, .. } = self;
        let failed = |error: std::io::Error| {
            Error::internal(format!("the server stopped unexpectedly: {error}"))
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(failed)?;
        // The histogram needs all scores: read while the first pictures are looked at.
        let reading = site.clone();
        std::thread::spawn(move || {
            if let Ok(catalog) = reading.catalog() {
                catalog.scores(&reading.run);
            }
        });
        let own = site.clone();
        let app = api::routes()
            .merge(assets::routes())
            .layer(middleware::from_fn(serve::whole_body))
            .layer(middleware::from_fn_with_state(guard, guard::check))
            .with_state(site);
        let answering = runtime.spawn(async move {
            listener.set_nonblocking(true)?;
            serve::answer(tokio::net::TcpListener::from_std(listener)?, app).await
        });
        while !cancel.requested() && !answering.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let all = [&own.picking.work, &own.learning.work, &own.measuring.work];
        all.iter().for_each(|work| work.stop());
        all.iter().for_each(|work| work.end());
        let ended = if answering.is_finished() { runtime.block_on(answering).ok() } else { None };
        // Files that are being written are finished.
        runtime.shutdown_timeout(Duration::from_secs(5));
        ended.map_or(Ok(()), |ended| ended.map_err(failed))
    }
}

/// The port that was asked for, else the favourite one, else any.
fn listen(bind: IpAddr, port: Option<u16>) -> Result<(TcpListener, SocketAddr)> {
    let wanted: Vec<u16> = port.map_or(vec![FAVOURITE_PORT, 0], |port| vec![port]);
    let mut last = None;
    for port in wanted {
        match TcpListener::bind((bind, port)).and_then(|own| Ok((own.local_addr()?, own))) {
            Ok((bound, listener)) => return Ok((listener, bound)),
            Err(error) => last = Some((port, error)),
        }
    }
    let (port, error) = last.map_or((0, String::new()), |(port, e)| (port, e.to_string()));
    Err(Error::setting(
        "port",
        format!("cannot listen on {bind}:{port}: {error}"),
        "name another port, or none to use any free one",
    ))
}

/// The name of this machine.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
}
