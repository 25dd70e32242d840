//! `picker inspect`.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::Args;

use super::args::OutArgs;
use super::micrographs::announce;
use super::session::Session;
use super::words::tell;
use super::{Exit, Global};
use crate::inspect::{Named, Options, Server, Trainer, hostname};
use crate::micrograph::{self, Filter};
use crate::run::RunDir;
use crate::units::counted;

/// Shows picks and takes labels in the browser
///
/// Serves one page on this machine: micrographs with their picks, a threshold that can be moved and
/// applied, labels by hand. Labels are saved in OUT/labels; `picker train --coordinates OUT/labels`
/// reads them. The page opens only with the address that is printed, which contains a token.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Micrographs, in any form that `picker pick` takes, or a run directory [default: the picks of
    /// OUT, else the folder micrographs]
    #[arg(value_name = "MICROGRAPHS|RUN")]
    what: Vec<PathBuf>,
    /// Port to listen on [default: 7878, or a free one if that is in use]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address to listen on; with any other than a loopback address, other machines can connect,
    /// without encryption
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Only show: nothing is written; works also while another picker uses the run directory
    #[arg(long)]
    read_only: bool,
    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    out: OutArgs,
}

pub(super) fn run(args: &InspectArgs, global: &Global) -> Result<Exit> {
    let Session { machine, cancel, .. } = Session::start(global)?;
    let (root, micrographs) = args.found()?;
    let run = if args.read_only { RunDir::look_into(&root) } else { RunDir::open(&root)? };
    let (bind, port, read_only) = (args.bind, args.port, args.read_only);
    let trainer = (!read_only).then_some(trainer as Trainer);
    let options = Options { run, micrographs, machine, bind, port, read_only, trainer };
    let server = Server::open(options)?;
    let url = server.url();
    let micrographs = counted(server.micrographs(), "micrograph");
    tell(&format!("{micrographs} of {}; Ctrl-C stops", root.display()));
    let port = server.bound().port();
    if !bind.is_loopback() {
        tracing::warn!(
            "{bind} can be reached from other machines, and the connection is not encrypted: \
             anyone who can read the network traffic gets the token"
        );
    } else if is_remote() {
        let user = std::env::var("USER").map(|user| format!("{user}@")).unwrap_or_default();
        tell(&format!(
            "from your own machine: ssh -N -L {port}:127.0.0.1:{port} {user}{}",
            hostname()
        ));
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{url}")?;
    if !stdout.is_terminal() {
        writeln!(stdout, "Authorization: Bearer {}", server.script_token())?;
    }
    stdout.flush()?;
    let opened = if args.no_open || is_remote() { None } else { open(&url) };
    let served = server.serve(&cancel);
    if let Some(file) = opened {
        // It holds the token of a server that has ended; one that stays does no harm.
        let _ = fs::remove_file(file);
    }
    served?;
    Ok(Exit::Done)
}

/// A training in a process of its own, with this process's words on threads and devices; it ends with
/// its standard input.
fn trainer(settings: &Path, out: &Path) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "picker".into());
    let mut command = Command::new(program);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let general = ["--threads", "--memory", "--device", "--seed"];
        if general.contains(&text.as_str()) {
            command.arg(word).args(words.next());
        } else if general.iter().any(|name| text.starts_with(&format!("{name}="))) {
            command.arg(word);
        }
    }
    command.arg("train").arg("--config").arg(settings).arg("--out").arg(out).arg("--relion-job");
    command
}

impl InspectArgs {
    /// The run directory, and the micrographs if others than those of the run are meant.
    fn found(&self) -> Result<(PathBuf, Option<Named>)> {
        let is_run = |path: &Path| {
            RunDir::look_into(path).records().is_ok_and(|records| !records.is_empty())
        };
        if let [only] = &self.what[..]
            && is_run(only)
        {
            return Ok((only.clone(), None));
        }
        let root = self.out.out.clone();
        let folder = [PathBuf::from("micrographs")];
        let what = match &self.what[..] {
            [] if RunDir::look_into(&root).list()?.is_some() || !folder[0].is_dir() => {
                return Ok((root, None));
            }
            [] => &folder,
            what => what,
        };
        let (sources, _) = announce(micrograph::list(what, Filter::default())?);
        Ok((root, Some(Named { paths: what.to_vec(), sources })))
    }
}

/// Whether somebody sits at another machine.
fn is_remote() -> bool {
    std::env::var_os("SSH_CONNECTION").is_some()
}

/// Opens a browser where there is a screen. What programs are started with can be seen by everybody
/// on the machine, so the browser is given a file that leads to the address.
fn open(url: &str) -> Option<PathBuf> {
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if !screen {
        return None;
    }
    let file = std::env::temp_dir().join(format!("picker_{:08x}.html", rand::random::<u32>()));
    let written = File::options().write(true).create_new(true).mode(0o600).open(&file);
    let page = format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={url}\">\n");
    written.and_then(|mut own| own.write_all(page.as_bytes())).ok()?;
    let quiet = Stdio::null;
    let started =
        Command::new("xdg-open").arg(&file).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    if let Err(error) = started {
        tracing::debug!("no browser was opened: {error}");
    }
    Some(file)
}
