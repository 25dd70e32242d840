//! `picker inspect`: who may ask, what is answered, what is written.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{RADIUS, contents, picker, simulate};

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) host: String,
    token: String,
    /// For scripts, on the second line.
    script: String,
}

impl Server {
    pub(crate) fn start(folder: &Path, words: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_picker"))
            .current_dir(folder)
            .args(["inspect", "--no-open", "--port", "0"])
            .args(words)
            .env_remove("SSH_CONNECTION")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut url, mut script) = (String::new(), String::new());
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        printed.read_line(&mut url).unwrap();
        printed.read_line(&mut script).unwrap();
        if url.is_empty() {
            let mut told = String::new();
            child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
            panic!("no address: {told}");
        }
        let url = url.trim().to_string();
        let (host, token) = url.strip_prefix("http://").unwrap().split_once("/?token=").unwrap();
        let (host, token) = (host.to_string(), token.to_string());
        let script = script.trim().strip_prefix("Authorization: Bearer ").unwrap().to_string();
        Server { child, url, host, token, script }
    }

    /// An answer to a request as it stands.
    pub(crate) fn raw(&self, request: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A server that refuses may close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body));
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer::of(&bytes)
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut all = vec![("Connection", "close".to_string())];
        if !headers.iter().any(|(name, _)| *name == "Host") {
            all.push(("Host", self.host.clone()));
        }
        all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_string())));
        if !body.is_empty() {
            all.push(("Content-Length", body.len().to_string()));
        }
        let lines: Vec<String> =
            all.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let text = format!("{method} {path} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        self.raw(&text, body)
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.script)
    }

    /// As a script asks.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("Authorization", &self.bearer())], b"")
    }

    pub(crate) fn change(
        &self,
        method: &str,
        path: &str,
        tag: Option<&str>,
        body: &Value,
    ) -> Answer {
        let bearer = self.bearer();
        let mut headers =
            vec![("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        headers.extend(tag.map(|tag| ("If-Match", tag)));
        self.send(method, path, &headers, body.to_string().as_bytes())
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let all = self.get("/api/micrographs").json();
        let rows = all["micrographs"].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_string()).collect()
    }

    /// The cookie that the page is given.
    pub(crate) fn cookie(&self) -> String {
        let page = self.send("GET", &format!("/?token={}", self.token), &[], b"");
        assert_eq!(page.status, 200);
        let cookie = page.header("set-cookie").unwrap().to_string();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        assert!(!cookie.contains(&self.token), "the cookie is another secret");
        cookie.split(';').next().unwrap().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.unwrap_or(0),
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.into())).collect(),
            body: bytes.get(end + 4..).unwrap_or_default().to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn error(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["schema"], 1);
        body["error"].as_str().unwrap().to_string()
    }
}

/// Micrographs that the default model has picked, in `picker_run`.
pub(crate) fn picked(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), count);
    picker(dir.path()).args(["pick", "--particle-radius", RADIUS]).assert().success();
    dir
}

/// Micrographs alone.
pub(crate) fn unpicked(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), count);
    dir
}

#[test]
fn nobody_gets_an_answer_without_the_token_or_the_cookie() {
    let dir = unpicked(1);
    let server = Server::start(dir.path(), &[]);
    let id = &server.ids()[0];
    let image = format!("/api/micrographs/{id}/image?size=256");
    let paths =
        ["/", "/?token=", "/?token=0000", "/main.js", "/api/run", "/api/micrographs", &image, "/x"];
    let cookie = server.cookie();
    let other = cookie.replace("picker_", "other_");
    let name = cookie.split('=').next().unwrap();
    let token_as_cookie = format!("{name}={}", server.token);
    let bearer_of_cookie = format!("Bearer {}", cookie.split('=').nth(1).unwrap());
    for path in paths {
        for headers in [
            vec![],
            vec![("Authorization", "Bearer 0")],
            vec![("Authorization", bearer_of_cookie.as_str())],
            vec![("Cookie", other.as_str())],
            vec![("Cookie", token_as_cookie.as_str())],
        ] {
            assert_eq!(server.send("GET", path, &headers, b"").status, 401, "{path} {headers:?}");
        }
    }
    let cookies = format!("a=b; {cookie}");
    for path in ["/", "/main.js", "/style.css", "/api/run", "/api/micrographs", &image] {
        assert_eq!(server.send("GET", path, &[("Cookie", &cookies)], b"").status, 200, "{path}");
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    // The token opens the page, once, and nothing else.
    assert_eq!(
        server.send("GET", &format!("/api/run?token={}", server.token), &[], b"").status,
        401
    );
    let page = format!("/?token={}", server.token);
    let again = server.send("GET", &page, &[], b"");
    assert_eq!((again.status, again.header("set-cookie")), (401, None));
    assert!(String::from_utf8_lossy(&again.body).contains("works only once"));
    let by_token = format!("Bearer {}", server.token);
    assert_eq!(server.send("GET", "/api/run", &[("Authorization", &by_token)], b"").status, 401);
    // The browser that opened it may open it again.
    assert_eq!(server.send("GET", &page, &[("Cookie", &cookie)], b"").status, 200);
}

#[test]
fn scripts_may_use_the_token_of_an_address_that_nobody_has_opened() {
    let dir = unpicked(1);
    let server = Server::start(dir.path(), &[]);
    let by_token = format!("Bearer {}", server.token);
    for _ in 0..2 {
        let answer = server.send("GET", "/api/run", &[("Authorization", &by_token)], b"");
        assert_eq!(answer.status, 200);
    }
    assert_eq!(server.get("/api/run").status, 200);
}

#[test]
fn idle_and_unfinished_connections_are_closed_and_others_are_answered_meanwhile() {
    let dir = unpicked(1);
    let server = Server::start(dir.path(), &[]);
    let open = |text: &str| {
        let mut stream = TcpStream::connect(&server.host).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let host = format!("Host: {}\r\nAuthorization: {}\r\n", server.host, server.bearer());
    let begun = Instant::now();
    let mut held = vec![
        open(""),
        open("GET /api/run HTTP/1.1\r\n"),
        open(&format!("GET /api/run HTTP/1.1\r\n{host}\r\n")),
        open(&format!("POST /api/threshold HTTP/1.1\r\n{host}Content-Length: 20\r\n\r\n{{")),
    ];
    assert_eq!(server.get("/api/run").status, 200);
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
        // To the end: the server closes it.
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert_eq!(server.get("/api/run").status, 200);
}

#[test]
fn a_server_that_only_shows_notices_that_the_picks_are_others() {
    let dir = picked(2);
    let shows = Server::start(dir.path(), &["--read-only", "picker_run"]);
    let run = shows.get("/api/run").json();
    let words = ["threshold", "--threshold", "0.9"];
    picker(dir.path()).args(words).assert().success();
    let begun = Instant::now();
    loop {
        let now = shows.get("/api/run").json();
        if now["threshold"] == json!(0.9) {
            assert_ne!(now["picks_version"], run["picks_version"]);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{now}");
        std::thread::sleep(Duration::from_millis(200));
    }
    // A list that is damaged for a while is not shown, and what was shown stays.
    let list = dir.path().join("picker_run/list.json");
    let whole = std::fs::read(&list).unwrap();
    std::fs::write(&list, "{").unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(shows.get("/api/run").json()["threshold"], json!(0.9));
    std::fs::write(&list, whole).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(shows.get("/api/micrographs").json()["micrographs"].as_array().unwrap().len(), 2);
}

#[test]
fn a_foreign_host_is_refused_even_with_the_secrets() {
    let dir = unpicked(1);
    let server = Server::start(dir.path(), &[]);
    let (cookie, bearer) = (server.cookie(), server.bearer());
    let page = format!("/?token={}", server.token);
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.1.2.3", ""] {
        for secret in [("Cookie", cookie.as_str()), ("Authorization", bearer.as_str())] {
            let answer = server.send("GET", "/api/run", &[("Host", host), secret], b"");
            assert!([400, 421].contains(&answer.status), "{host}: {}", answer.status);
        }
        let answer = server.send("GET", &page, &[("Host", host)], b"");
        assert!(answer.status != 200 && answer.header("set-cookie").is_none(), "{host}");
    }
    // The near end of a tunnel may have another port.
    for host in ["localhost:9999", "127.0.0.1:9999", "[::1]:9999"] {
        let answer = server.send("GET", "/api/run", &[("Host", host), ("Cookie", &cookie)], b"");
        assert_eq!(answer.status, 200, "{host}");
    }
}

#[test]
fn changes_are_taken_from_the_page_itself_and_from_scripts_only() {
    let dir = picked(1);
    let server = Server::start(dir.path(), &[]);
    let (cookie, bearer, own) =
        (server.cookie(), server.bearer(), format!("http://{}", server.host));
    let body = br#"{"threshold":0.6}"#;
    let post = |headers: &[(&str, &str)]| {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        server.send("POST", "/api/threshold", &all, body).status
    };
    let cookie = ("Cookie", cookie.as_str());
    let other_port = format!("http://127.0.0.1:{}", 1);
    for origin in ["http://evil.example", "null", "", &other_port, &format!("{own}.evil.example")] {
        assert_eq!(post(&[cookie, ("Origin", origin)]), 403, "{origin}");
        assert_eq!(post(&[("Authorization", &bearer), ("Origin", origin)]), 403, "{origin}");
    }
    assert_eq!(post(&[cookie]), 403, "a browser says where a change comes from");
    assert_eq!(post(&[("Origin", &own)]), 401);
    assert_eq!(post(&[cookie, ("Origin", &own)]), 200);
    assert_eq!(post(&[("Authorization", &bearer)]), 200);
    // Another site may not even ask whether it may.
    let asked = [("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")];
    let answer = server.send("OPTIONS", "/api/threshold", &asked, b"");
    assert_eq!(answer.status, 401);
    for answer in [answer, server.get("/api/run"), server.get("/"), server.get("/nothing")] {
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    }
}

#[test]
fn no_path_is_taken_from_a_client() {
    let dir = unpicked(1);
    std::fs::write(dir.path().join("secret"), "root:secret").unwrap();
    let server = Server::start(dir.path(), &[]);
    for id in [
        "..",
        "../secret",
        "..%2fsecret",
        "..%2f..%2fsecret",
        "%2e%2e%2fsecret",
        "%00",
        "sim_0001",
        "micrographs%2fsim_0001.mrc",
        "%2fetc%2fpasswd",
        "0000000000000000",
        "..%5csecret",
    ] {
        for path in [
            format!("/{id}"),
            format!("/api/micrographs/{id}"),
            format!("/api/micrographs/{id}/image?size=256"),
            format!("/api/micrographs/{id}/labels"),
        ] {
            let answer = server.get(&path);
            assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
            assert!(!String::from_utf8_lossy(&answer.body).contains("root:"), "{path}");
        }
    }
}

#[test]
fn ten_thousand_bad_requests_leave_a_server_that_answers() {
    let dir = unpicked(1);
    let server = Server::start(dir.path(), &[]);
    let id = server.ids().remove(0);
    let path = format!("/api/micrographs/{id}/labels");
    let large = vec![b' '; 3 << 20];
    let bearer = server.bearer();
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("If-Match", "x"),
    ];
    assert_eq!(server.send("PUT", &path, &headers, &large).status, 413);
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 422),
        ("{\"state\":\"x\",\"positives\":[],\"negatives\":[]}", 422),
        ("{\"state\":\"partial\",\"positives\":[[1]],\"negatives\":[]}", 422),
        ("{\"state\":\"partial\",\"positives\":[[1e999,1]],\"negatives\":[]}", 400),
        ("{\"state\":\"partial\",\"positives\":[[-9,1]],\"negatives\":[]}", 422),
        ("{\"state\":\"partial\",\"positives\":[[1,256]],\"negatives\":[]}", 422),
        ("{\"state\":\"partial\",\"positives\":[],\"negatives\":[],\"path\":\"/etc\"}", 422),
    ] {
        assert_eq!(server.send("PUT", &path, &headers, body.as_bytes()).status, status, "{body}");
    }
    let memory = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = memory();
    for number in 0..10_000_u32 {
        let text = match number % 5 {
            0 => "GET / HTTP/1.1\r\n\r\n".to_string(),
            1 => format!("\u{0}\u{1}{number}\r\n\r\n"),
            2 => format!(
                "GET /api/micrographs/{number} HTTP/1.1\r\nHost: x{number}\r\nConnection: close\r\n\r\n"
            ),
            3 => format!(
                "POST /api/threshold HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{{",
                server.host
            ),
            _ => format!(
                "GET /?token={number} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                server.host
            ),
        };
        let mut stream = TcpStream::connect(&server.host).unwrap();
        let _ = stream.write_all(text.as_bytes());
        if number % 50 == 0 {
            let mut bytes = [0; 16];
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let _ = stream.read(&mut bytes);
            assert!(!bytes.starts_with(b"HTTP/1.1 200"), "{text}");
        }
    }
    assert_eq!(server.get("/api/run").status, 200);
    let grown = memory().saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} kB more");
}

#[test]
fn the_interface_answers_as_its_page_says() {
    let dir = picked(3);
    let server = Server::start(dir.path(), &["picker_run"]);
    let run = server.get("/api/run").json();
    assert_eq!((&run["schema"], &run["micrographs"]), (&json!(1), &json!(3)));
    let threshold = run["threshold"].as_f64().unwrap();
    let all = server.get("/api/micrographs").json();
    let rows = all["micrographs"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(all["scores_ready"], true);
    let counts = server.get(&format!("/api/counts?threshold={threshold}")).json();
    let mut peaks_in_all = 0;
    for (place, row) in rows.iter().enumerate() {
        let id = row["id"].as_str().unwrap();
        assert_eq!(row["picks"], counts["counts"][place]);
        assert_eq!(row["labels"], json!({"state": "unseen", "positives": 0, "negatives": 0}));
        let one = server.get(&format!("/api/micrographs/{id}")).json();
        assert_eq!((&one["width"], &one["height"]), (&json!(320), &json!(256)));
        assert_eq!(one["radius_px"], 14.0);
        let peaks = one["peaks"].as_array().unwrap();
        peaks_in_all += peaks.len() as u64;
        let scores: Vec<f64> = peaks.iter().map(|peak| peak[2].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b));
        let picks: Vec<f64> = scores.into_iter().filter(|score| *score >= threshold).collect();
        assert_eq!(json!(picks.len()), row["picks"]);
        let mean = picks.iter().sum::<f64>() / picks.len() as f64;
        assert!((row["mean_score"].as_f64().unwrap() - mean).abs() < 1e-5);
        for size in [256, 1024] {
            let path = format!("/api/micrographs/{id}/image?size={size}");
            let image = server.get(&path);
            let shown = image::load_from_memory(&image.body).unwrap();
            // Never enlarged.
            assert_eq!(
                (shown.width(), shown.height()),
                if size == 256 { (256, 205) } else { (320, 256) }
            );
            let tag = image.header("etag").unwrap();
            let bearer = server.bearer();
            let again = [("Authorization", bearer.as_str()), ("If-None-Match", tag)];
            assert_eq!(server.send("GET", &path, &again, b"").status, 304);
        }
        assert_eq!(server.get(&format!("/api/micrographs/{id}/image?size=300")).status, 422);
    }
    let bars = run["histogram"]["counts"].as_array().unwrap();
    assert_eq!(bars.iter().map(|bar| bar.as_u64().unwrap()).sum::<u64>(), peaks_in_all);
    for bad in ["", "?threshold=2", "?threshold=NaN", "?threshold=x"] {
        assert!([400, 422].contains(&server.get(&format!("/api/counts{bad}")).status), "{bad}");
    }
}

#[test]
fn an_applied_threshold_is_what_the_command_would_have_written() {
    let dir = picked(2);
    let (run, other) = (dir.path().join("picker_run"), dir.path().join("other_run"));
    picker(dir.path())
        .args(["pick", "--particle-radius", RADIUS, "--out", "other_run"])
        .assert()
        .success();
    let server = Server::start(dir.path(), &[]);
    let at = 0.85;
    let counted = server.get(&format!("/api/counts?threshold={at}")).json();
    let applied = server.change("POST", "/api/threshold", None, &json!({ "threshold": at })).json();
    assert_eq!(applied["picks"], counted["total"]);
    let rows = server.get("/api/micrographs").json();
    let shown: u64 = rows["micrographs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["picks"].as_u64().unwrap())
        .sum();
    assert_eq!(json!(shown), applied["picks"]);
    picker(dir.path())
        .args(["threshold", "--threshold", "0.85", "--out", "other_run"])
        .assert()
        .success();
    let picks = |root: &Path| {
        let here = root.file_name().unwrap().to_str().unwrap().to_string();
        let all = contents(&root.join("picks")).into_iter();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&here, "RUN");
        all.map(|(path, bytes)| (path, text(bytes))).collect::<Vec<_>>()
    };
    assert_eq!(picks(&run), picks(&other));
    // Below what is stored, nothing may change.
    let refused = server.change("POST", "/api/threshold", None, &json!({ "threshold": 0.001 }));
    assert_eq!(refused.status, 422);
    assert!(refused.error().contains("0.001"), "{}", refused.error());
    assert_eq!(picks(&run), picks(&other));
}

#[test]
fn labels_are_files_and_of_two_tabs_the_second_is_refused() {
    let dir = unpicked(2);
    let labels = dir.path().join("picker_run/labels");
    let id;
    let set = json!({"state": "partial", "positives": [[10.4, 20.0], [100.0, 30.0]], "negatives": [[50.0, 60.0]]});
    {
        let server = Server::start(dir.path(), &["micrographs"]);
        id = server.ids().remove(0);
        let path = format!("/api/micrographs/{id}/labels");
        let empty = server.get(&path);
        let first = empty.header("etag").unwrap().to_string();
        assert_eq!(server.change("PUT", &path, None, &set).status, 428);
        let stored = server.change("PUT", &path, Some(&first), &set);
        assert_eq!(stored.json()["positives"], json!([[10.0, 20.0], [100.0, 30.0]]));
        // The second tab has the version of before.
        let other = json!({"state": "complete", "positives": [], "negatives": []});
        let refused = server.change("PUT", &path, Some(&first), &other);
        assert_eq!(refused.status, 412);
        assert!(refused.error().contains("elsewhere"));
        let now = server.get(&path);
        assert_eq!(now.header("etag"), stored.header("etag"));
        let row = &server.get("/api/micrographs").json()["micrographs"][0]["labels"];
        assert_eq!(row, &json!({"state": "partial", "positives": 2, "negatives": 1}));
        // Killed here, not stopped.
    }
    let files: Vec<_> = contents(&labels).into_iter().map(|(path, _)| path).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    // Commands that read coordinates find the particles, and nothing else.
    let words = ["convert", "picker_run/labels", "--to", "csv", "--out", "labels.csv"];
    picker(dir.path()).args(words).assert().success();
    let rows = std::fs::read_to_string(dir.path().join("labels.csv")).unwrap();
    assert_eq!(rows.lines().count(), 3, "{rows}");
    assert!(!rows.contains("50,60"), "{rows}");
    let server = Server::start(dir.path(), &["micrographs"]);
    let path = format!("/api/micrographs/{id}/labels");
    let again = server.get(&path).json();
    assert_eq!(again["positives"], json!([[10.0, 20.0], [100.0, 30.0]]));
    assert_eq!((&again["negatives"], &again["state"]), (&json!([[50.0, 60.0]]), &json!("partial")));
    // Another program's change is noticed as well.
    let tag = server.get(&path).header("etag").unwrap().to_string();
    let star = labels.join(
        files
            .iter()
            .find(|f| !f.to_string_lossy().contains("negat") && f.extension().unwrap() == "star")
            .unwrap(),
    );
    let text = std::fs::read_to_string(&star).unwrap();
    std::fs::write(&star, text.replace("100.000000", "101.000000")).unwrap();
    assert_eq!(server.change("PUT", &path, Some(&tag), &set).status, 412);
    let tag = server.get(&path).header("etag").unwrap().to_string();
    // Back to nothing leaves nothing.
    let nothing = json!({"state": "unseen", "positives": [], "negatives": []});
    assert_eq!(server.change("PUT", &path, Some(&tag), &nothing).status, 200);
    assert!(contents(&labels).is_empty());
    // Complete without particles says that there are none.
    let tag = server.get(&path).header("etag").unwrap().to_string();
    let none = json!({"state": "complete", "positives": [], "negatives": []});
    assert_eq!(server.change("PUT", &path, Some(&tag), &none).status, 200);
    assert_eq!(contents(&labels).len(), 2);
}

#[test]
fn a_server_that_only_shows_writes_nothing_and_another_one_is_refused() {
    let dir = picked(1);
    let run = dir.path().join("picker_run");
    let first = Server::start(dir.path(), &[]);
    let refused = picker(dir.path()).args(["inspect", "--no-open", "--port", "0"]).assert().code(1);
    let told = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(told.contains("another picker is at work in it"), "{told}");
    let before = contents(&run);
    let shows = Server::start(dir.path(), &["--read-only"]);
    let id = shows.ids().remove(0);
    let labels = format!("/api/micrographs/{id}/labels");
    assert_eq!(shows.get(&format!("/api/micrographs/{id}/image?size=1024")).status, 200);
    assert_eq!(shows.get("/api/run").json()["read_only"], true);
    let tag = shows.get(&labels).header("etag").unwrap().to_string();
    let set = json!({"state": "complete", "positives": [], "negatives": []});
    assert_eq!(shows.change("PUT", &labels, Some(&tag), &set).status, 403);
    let cut = shows.change("POST", "/api/threshold", None, &json!({ "threshold": 0.9 }));
    assert_eq!(cut.status, 403);
    assert_eq!(contents(&run), before);
    drop(first);
}

#[test]
fn a_micrograph_that_is_deleted_meanwhile_is_named_and_the_others_are_shown() {
    let dir = picked(2);
    let server = Server::start(dir.path(), &[]);
    let ids = server.ids();
    std::fs::remove_file(dir.path().join("micrographs/sim_0001.mrc")).unwrap();
    for path in ["", "/image?size=256"] {
        let gone = server.get(&format!("/api/micrographs/{}{path}", ids[0]));
        assert_eq!(gone.status, 410);
        assert!(gone.error().contains("sim_0001.mrc"), "{}", gone.error());
        assert_eq!(server.get(&format!("/api/micrographs/{}{path}", ids[1])).status, 200);
    }
}

#[test]
fn what_cannot_be_shown_or_listened_at_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = picker(dir.path()).args(["inspect", "--no-open"]).assert().code(2);
    let told = String::from_utf8(nothing.get_output().stderr.clone()).unwrap();
    assert!(told.contains("picker pick MICROGRAPHS"), "{told}");
    let dir = unpicked(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused =
        picker(dir.path()).args(["inspect", "--no-open", "--port", &port]).assert().code(2);
    let told = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(told.contains(&port), "{told}");
}

#[test]
fn the_server_ends_when_it_is_asked_to() {
    let dir = unpicked(1);
    let mut server = Server::start(dir.path(), &[]);
    // An open connection does not hold it.
    let _open = TcpStream::connect(&server.host).unwrap();
    let stop = Command::new("kill").arg(server.child.id().to_string()).status().unwrap();
    assert!(stop.success());
    let begun = Instant::now();
    assert!(server.child.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn excluded_micrographs_are_left_out_of_a_list_that_the_next_picking_takes() {
    let dir = unpicked(3);
    let list = dir.path().join("picker_run/good_micrographs.star");
    let id = {
        let server = Server::start(dir.path(), &["micrographs"]);
        let id = server.ids().remove(1);
        let path = format!("/api/micrographs/{id}/excluded");
        assert!(!list.exists());
        assert_eq!(server.change("PUT", &path, None, &json!({ "out": true })).status, 422);
        server.change("PUT", &path, None, &json!({ "excluded": true })).json();
        id
    };
    let text = std::fs::read_to_string(&list).unwrap();
    assert!(text.contains("sim_0001.mrc") && text.contains("sim_0003.mrc"), "{text}");
    assert!(!text.contains("sim_0002.mrc"), "{text}");
    let words = ["pick", "picker_run/good_micrographs.star", "--particle-radius", RADIUS];
    picker(dir.path()).args(words).assert().success();
    let stars = std::fs::read_dir(dir.path().join("picker_run/picks")).unwrap();
    let names: Vec<_> =
        stars.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.contains("sim_0002")), "{names:?}");
    let server = Server::start(dir.path(), &["micrographs"]);
    let rows = server.get("/api/micrographs").json();
    assert_eq!(rows["micrographs"][1]["excluded"], true);
    let path = format!("/api/micrographs/{id}/excluded");
    server.change("PUT", &path, None, &json!({ "excluded": false })).json();
    assert!(std::fs::read_to_string(&list).unwrap().contains("sim_0002.mrc"));
}

#[test]
fn micrographs_without_picks_are_picked_as_the_command_does() {
    let dir = unpicked(3);
    let server = Server::start(dir.path(), &["micrographs"]);
    let run = server.get("/api/run").json();
    assert_eq!((&run["can_pick"], &run["threshold"]), (&json!(true), &Value::Null));
    let out = format!("/api/micrographs/{}/excluded", server.ids()[2]);
    server.change("PUT", &out, None, &json!({ "excluded": true })).json();
    for bad in [json!({ "radius_px": -1 }), json!({ "radius": 14 }), json!({ "radius_px": "x" })] {
        assert_eq!(server.change("POST", "/api/picking", None, &bad).status, 422, "{bad}");
    }
    let pick = |radius: f64| {
        let body = json!({ "radius_px": radius });
        assert_eq!(server.change("POST", "/api/picking", None, &body).status, 202);
        let begun = Instant::now();
        loop {
            let told = server.get("/api/picking").json()["picking"].clone();
            if told["phase"] != "picking" {
                break told;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{told}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let failed = pick(200.0);
    assert_eq!(failed["phase"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("does not fit"), "{failed}");
    let done = pick(14.0);
    assert_eq!((&done["phase"], &done["total"]), (&json!("done"), &json!(2)), "{done}");
    let rows = server.get("/api/micrographs").json();
    let picks = |place: usize| rows["micrographs"][place]["picks"].as_u64();
    assert_eq!(picks(0).zip(picks(1)).map(|(a, b)| a + b), done["picks"].as_u64());
    assert_eq!(picks(2), None, "it was excluded");
    drop(server);
    picker(dir.path())
        .args(["pick", "--particle-radius", RADIUS, "--exclude", "sim_0003*", "--out", "other"])
        .assert()
        .success();
    let stars = |run: &str| {
        let all = contents(&dir.path().join(run).join("picks")).into_iter();
        all.filter(|(path, _)| path.to_string_lossy().contains("sim_")).collect::<Vec<_>>()
    };
    assert_eq!(stars("picker_run").len(), 2);
    assert_eq!(stars("picker_run"), stars("other"));
}
