//! The page in a browser without a screen: it opens without an error, draws what the trace has, finds and zooms.
//!
//! Where no Chromium is installed there is nothing to test with; the test says so and ends. With `CHROMIUM=FILE` it takes that
//! browser and no other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use quorate_report::{Timeline, Trace, page};
use quorate_scenario::Scenario;
use quorate_sim::{RunOptions, run_scenario, run_seeds};

const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// A browser starts within seconds; on a loaded host it may take long.
const BROWSER_MAX: Duration = Duration::from_secs(180);

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let files = folders.iter().flat_map(|f| NAMES.iter().map(move |n| f.join(n)));
    files.into_iter().find(|file| file.is_file())
}

/// The browser, or a word on why there is no test.
fn needs_browser() -> Option<PathBuf> {
    let found = browser();
    if found.is_none() {
        eprintln!("skipped: no Chromium here ({}); on Debian: apt-get install chromium", NAMES.join(", "));
    }
    found
}

/// The page's DOM after its scripts have run.
fn open(browser: &Path, file: &Path, address: &str, size: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut data = OsString::from("--user-data-dir=");
    data.push(profile.path());
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--dump-dom",
    ];
    let child = Command::new(browser)
        .args(flags)
        .arg(data)
        .arg(format!("--window-size={size}"))
        .arg(format!("file://{}{address}", file.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let id = child.id();
    let (send, receive) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    match receive.recv_timeout(BROWSER_MAX) {
        Ok(output) => String::from_utf8(output.unwrap().stdout).unwrap(),
        Err(_) => {
            let _ = Command::new("kill").arg(id.to_string()).status();
            panic!("{}: no answer within {BROWSER_MAX:?}", browser.display());
        }
    }
}

/// The value of a `data-` attribute of the first element that has it.
fn data(dom: &str, name: &str) -> Option<String> {
    let mark = format!("data-{name}=\"");
    let start = dom.find(&mark)? + mark.len();
    Some(dom[start..].split('"').next()?.to_owned())
}

fn number(dom: &str, name: &str) -> usize {
    let value = data(dom, name).unwrap_or_else(|| panic!("no data-{name}; {:?}", data(dom, "error")));
    value.parse().unwrap_or_else(|_| panic!("data-{name}=\"{value}\""))
}

fn sound(dom: &str, trace: &Trace) {
    assert_eq!(data(dom, "error"), None);
    assert_eq!(data(dom, "ready").as_deref(), Some("1"));
    assert_eq!(number(dom, "events"), trace.lines.len());
}

fn scenario(name: &str) -> Trace {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let scenario = &Scenario::read(&file).unwrap()[0];
    let (outcome, lines) = run_scenario(scenario, scenario.seed);
    assert!(outcome.ok());
    Trace::new(lines.iter().map(|l| (**l).clone()).collect())
}

fn written(folder: &Path, trace: &Trace, title: &str) -> PathBuf {
    let path = folder.join("page.html");
    std::fs::write(&path, page(trace, &Timeline::of(trace), title)).unwrap();
    path
}

#[test]
fn a_killed_master_is_drawn_found_and_zoomed_to() {
    let Some(browser) = needs_browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let trace = scenario("kill-the-master.toml");
    let file = written(folder.path(), &trace, "kill-the-master");
    for size in ["1280,900", "800,900"] {
        let dom = open(&browser, &file, "", size);
        sound(&dom, &trace);
        // The harness, the masters, three nodes of three levels each.
        assert_eq!(number(&dom, "lanes"), 2 + 3 * (1 + 3));
        assert_eq!(number(&dom, "arrows"), Timeline::of(&trace).arrows.len());
        assert!(number(&dom, "drawn") > 100, "{}", number(&dom, "drawn"));
        assert!(dom.contains("forced-leaving") && dom.contains("every expectation held"));
    }
    let whole = number(&open(&browser, &file, "", "1280,900"), "drawn");
    let kill = trace.lines.iter().find(|l| l.text("do") == Some("kill")).unwrap().t_us;
    let close = open(&browser, &file, &format!("#from=0&to={}", kill / 4), "1280,900");
    sound(&close, &trace);
    assert!(number(&close, "drawn") < whole, "zoomed in, less is seen");
    let fences = trace.lines.iter().filter(|l| l.to_json().contains("fence")).count();
    let found = open(&browser, &file, "#q=fence&next=1", "1280,900");
    sound(&found, &trace);
    assert_eq!(number(&found, "found"), fences);
    assert!(found.contains(&format!("1 of {fences}")), "the first is shown");
    assert!(found.contains("class=\"row kept\""), "and kept in the list");
    let none = open(&browser, &file, "#q=no-such-word", "1280,900");
    assert_eq!(number(&none, "found"), 0);
    assert!(none.contains("nothing found"));
}

/// The next frame comes at once: whatever happens is over before the browser writes down what it has.
const FRAMES: &str =
    r#"<head><script>requestAnimationFrame = (draw) => { queueMicrotask(() => draw(0)); return 1; };</script>"#;

/// Points, turns the wheel, drags, presses keys and folds a node, and writes down what came of it.
const HANDS: &str = r#"<script>
addEventListener("load", () => {
  const $ = (id) => document.getElementById(id);
  const said = (name, value) => (document.documentElement.dataset[name] = value);
  const canvas = $("canvas");
  const box = canvas.getBoundingClientRect();
  const pointer = (type, x, y, more) => canvas.dispatchEvent(new PointerEvent(type,
    { clientX: box.left + x, clientY: box.top + y, button: 0, pointerId: 1, bubbles: true, cancelable: true, ...more }));
  const key = (name) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const frame = async () => {
    for (let i = 0; i < 8; i++) await null;
  };
  const find = (words) => {
    for (let y = 60; y < box.height; y += 5) {
      for (let x = 130; x < box.width; x += 3) {
        pointer("pointermove", x, y);
        if (!$("tip").hidden && words.every((w) => $("tip").textContent.includes(w))) return [x, y];
      }
    }
    return null;
  };
  (async () => {
    const step = find(["is told", "forced-leaving", "acknowledged"]);
    said("tip", step ? $("tip").textContent : "nothing");
    if (!step) return;
    pointer("pointerdown", ...step);
    pointer("pointerup", ...step);
    await frame();
    said("kept", $("detail").textContent);
    const drawn = () => Number(canvas.dataset.drawn);
    const whole = drawn();
    for (let i = 0; i < 12; i++) {
      canvas.dispatchEvent(new WheelEvent("wheel", { clientX: box.left + step[0], clientY: box.top + step[1], deltaY: -240, bubbles: true, cancelable: true }));
    }
    await frame();
    said("wheel", drawn() < whole);
    pointer("pointerleave", 0, 0);
    key("0");
    await frame();
    said("all", drawn() === whole);
    key("+");
    key("+");
    await frame();
    const middle = drawn();
    pointer("pointerdown", 400, 70);
    for (let x = 400; x < 1000; x += 50) pointer("pointermove", x, 70);
    pointer("pointerup", 1000, 70);
    await frame();
    said("drag", drawn() !== middle);
    const height = parseFloat($("chart-height").style.height);
    pointer("pointerdown", 40, 125);
    pointer("pointerup", 40, 125);
    await frame();
    said("folded", parseFloat($("chart-height").style.height) < height);
    document.querySelector("table.transitions tbody tr:last-child a").click();
    await frame();
    said("link", drawn());
    key("t");
    await frame();
    said("linear", !$("squeeze").checked && drawn() > 0);
    said("done", "1");
  })();
});
</script></body>"#;

#[test]
fn pointer_wheel_keys_and_links_do_what_they_say() {
    let Some(browser) = needs_browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let trace = scenario("kill-the-master.toml");
    let file = written(folder.path(), &trace, "hands");
    let html = std::fs::read_to_string(&file).unwrap().replace("</body>", HANDS).replace("<head>", FRAMES);
    std::fs::write(&file, html).unwrap();
    let dom = open(&browser, &file, "", "1280,900");
    sound(&dom, &trace);
    let tip = data(&dom, "tip").unwrap();
    assert!(tip.contains("level 0 membership") || tip.contains("level 60 probe-a"), "{tip}");
    assert!(tip.contains("round 129."), "{tip}");
    let kept = data(&dom, "kept").unwrap();
    assert!(kept.contains("is told: node 0 forced-leaving"), "{kept}");
    assert_eq!(data(&dom, "done").as_deref(), Some("1"), "{:?}", data(&dom, "error"));
    for what in ["wheel", "all", "drag", "folded", "linear"] {
        assert_eq!(data(&dom, what).as_deref(), Some("true"), "{what}");
    }
    assert!(number(&dom, "link") > 0);
}

#[test]
fn a_text_that_would_end_the_script_is_only_a_text() {
    let Some(browser) = needs_browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let evil = r#"{"t_us":5,"node":0,"inc":1,"nt_us":1,"seq":0,"lc":1,"ev":"panic","reason":"</script><script>document.documentElement.dataset.evil=1</script><img src=x onerror=\"document.documentElement.dataset.evil=2\">"}"#;
    let trace = Trace::parse(evil.as_bytes()).unwrap();
    let dom = open(&browser, &written(folder.path(), &trace, "<b>evil</b>"), "", "800,600");
    sound(&dom, &trace);
    assert_eq!(data(&dom, "evil"), None);
    assert!(dom.contains("<h1>&lt;b&gt;evil&lt;/b&gt;"));
}

#[test]
fn tens_of_thousands_of_events_are_drawn_as_what_can_be_seen() {
    let Some(browser) = needs_browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    let options = RunOptions { keep_trace: true, ..RunOptions::default() };
    run_seeds(3..4, 24, &options, |outcome| lines.clone_from(&outcome.trace)).unwrap();
    let once = Trace::parse(lines.join("\n").as_bytes()).unwrap();
    // The same run twice more, later.
    let mut trace = Trace::default();
    let long = once.lines.last().unwrap().t_us + 1_000_000;
    for k in 0..3 {
        trace.lines.extend(once.lines.iter().cloned().map(|mut line| {
            line.t_us += k * long;
            line.inc = line.inc.map(|i| i + 100 * k as u32);
            line
        }));
    }
    assert!(trace.lines.len() > 30_000, "{}", trace.lines.len());
    let dom = open(&browser, &written(folder.path(), &trace, "long"), "", "1280,900");
    sound(&dom, &trace);
    let drawn = number(&dom, "drawn");
    assert!(drawn > 500 && drawn < trace.lines.len() / 2, "{drawn} of {}", trace.lines.len());
    eprintln!("{} events, {drawn} drawn in {} ms", trace.lines.len(), data(&dom, "draw-ms").unwrap_or_default());
}
