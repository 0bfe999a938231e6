//! Every mistake in a scenario file has a message, a line, a column and a caret.

use quorate_launch::Nic;
use quorate_scenario::Scenario;
use quorate_scenario::model::{Action, Kernel, MachineVerb, StepKind};
use quorate_scenario::source::{Problems, Source};

fn problems(text: &str) -> Problems {
    Scenario::parse(Source::new("wrong.toml", text)).err().unwrap_or_else(|| panic!("no problem in:\n{text}"))
}

/// Three nodes, level 70, then these steps.
fn with_steps(steps: &str) -> String {
    format!("nodes = 3\nlevel = [{{ order = 70, name = \"probe\" }}]\nstep = [\n{steps}\n]\n")
}

/// The one problem of a text.
fn one(text: &str) -> String {
    let found = problems(text);
    assert_eq!(found.list.len(), 1, "{found}");
    found.to_string()
}

fn one_step(step: &str) -> String {
    one(&with_steps(step))
}

#[test]
fn the_caret_stands_under_the_word() {
    let text = "name = \"kill-the-master\"\nnodes = 3\n\n[[step]]\ndo = \"kil\"\nnode = \"master\"\n";
    let rendered = problems(text).render(false);
    let want = r#"
  × unknown verb: `kil`
   ╭─[wrong.toml:5:6]
 4 │ [[step]]
 5 │ do = "kil"
   ·      ──┬──
   ·        ╰── not known here
 6 │ node = "master"
   ╰────
  help: did you mean `kill`? Known here: start, kill, pause, resume, freeze, thaw, reset, leave, command, cut, loss,"#;
    assert!(rendered.contains(want.trim_start_matches('\n')), "{rendered}");
}

#[test]
fn all_problems_of_a_file_are_reported_in_its_order() {
    let text = "nodes = 3\ncolour = 1\n[[step]]\ndo = \"kil\"\n[[step]]\nexpect = \"master\"\nis = 7\n";
    let found = problems(text).to_string();
    let want = "wrong.toml:2:1: unknown key in the scenario: `colour`\nwrong.toml:4:6: unknown verb: `kil`\n\
                wrong.toml:7:6: node 7 is not configured";
    assert_eq!(found, want);
}

#[test]
fn the_kernel_of_a_machine_is_one_that_there_is() {
    let found = one_step("{ do = \"start\", node = 0, kernel = \"hobby\" }");
    assert!(found.contains("unknown kernel: `hobby`"), "{found}");
    let text =
        with_steps("{ do = \"start\", node = 0, kernel = \"hobby-os\" }").replace("nodes", "nic = \"e1000\"\nnodes");
    let scenario = Scenario::parse(Source::new("right.toml", text)).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(scenario.nic, Nic::E1000);
    let boots = |a: &Action| matches!(a, Action::Start { options, .. } if options.kernel == Kernel::HobbyOs);
    assert!(scenario.any_action(&boots));
}

#[test]
fn kernels_in_slots_have_a_slot_and_a_version_that_fits() {
    for (step, want) in [
        (r#"{ do = "install_kernel", node = 0 }"#, "has no `slot`"),
        (r#"{ do = "install_kernel", node = 0, slot = "c" }"#, "unknown slot: `c`"),
        (r#"{ do = "install_kernel", slot = "a" }"#, "has no `node`"),
        (r#"{ do = "install_kernel", node = 0, slot = "a", version = "a b" }"#, "`a b` is no version"),
        (r#"{ do = "image", edit = "damage-kernel", node = 0 }"#, "has no `slot`"),
        (r#"{ do = "image", edit = "boot-slot", slot = "a" }"#, "has no `node`"),
    ] {
        let said = one_step(step);
        assert!(said.contains(want), "{step}: {said}");
    }
    let text = format!("boot = \"uefi\"\n{}", with_steps(r#"{ do = "install_kernel", node = 0, slot = "b" }"#));
    let scenario = Scenario::parse(Source::new("a.toml", text)).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(scenario.boot, quorate_launch::BootPath::Uefi);
    assert!(
        one(&format!("boot = \"bios\"\n{}", with_steps(r#"{ do = "start", node = 0 }"#)))
            .contains("unknown boot: `bios`")
    );
}

#[test]
fn the_head_of_the_file() {
    let step = "step = [{ expect = \"master\" }]\n";
    let cases = [
        ("nodes = 3\nnodes = 3\n", "2:1: not TOML: duplicate key"),
        ("x = [\n", "not TOML:"),
        ("name = \"x\"\n", "1:1: the scenario has no `nodes`"),
        ("nodes = 0\n", "1:9: `nodes` of the scenario is 0, it must be 1 to 64"),
        ("nodes = 65\n", "1:9: `nodes` of the scenario is 65, it must be 1 to 64"),
        ("nodes = \"3\"\n", "1:9: `nodes` of the scenario is a string, not a whole number"),
        ("nodes = 3\nseed = 1.5\n", "2:8: `seed` of the scenario is a number, not a whole number"),
        ("nodes = 3\nblock_size = 1024\n", "2:14: `block_size` is 1024, it must be 512 or 4096"),
        ("nodes = 3\ndisk = \"tgd\"\n", "2:8: unknown disk: `tgd`"),
        ("nodes = 3\ndisk = 1\n", "2:8: `disk` of the scenario is a whole number, not a string"),
        ("nodes = 3\nfence = \"wall\"\n", "2:9: unknown fence: `wall`"),
        ("nodes = 3\nnic = \"e100\"\n", "2:7: unknown nic: `e100`"),
        ("nodes = 3\npreempted = \"now\"\n", "2:13: unknown preempted: `now`"),
        ("nodes = 3\nregistrants = \"one\"\n", "2:15: unknown registrants: `one`"),
        ("nodes = 3\ntiming = 3\n", "2:10: [timing] is a whole number, not a table"),
        ("nodes = 3\ntiming = { profile = \"fats\" }\n", "2:22: unknown timing profile: `fats`"),
        ("nodes = 3\ntiming = { dead = 900 }\n", "2:12: timing: lease * 1.01 + io_max must be below dead * 0.99"),
        ("nodes = 3\ntiming = { io_max = 1 }\n", "2:12: timing: io_max is 1 ms, it must be 5 to 600000 ms"),
        ("nodes = 3\ntiming = { net_suspect = 150 }\n", "2:12: timing: net_suspect must be at least two times"),
        ("nodes = 3\ntiming = { lease = 300 }\n", "2:12: timing: lease must be more than two times"),
        ("nodes = 3\ntiming = { ded = 1 }\n", "2:12: unknown key in [timing]: `ded`"),
    ];
    for (text, want) in cases {
        let found = one(&format!("{text}{}", if text.starts_with("x =") { "" } else { step }));
        assert!(found.contains(want), "{text}\n{found}");
    }
    assert!(one("nodes = 3\n").contains("the scenario has no `step`"));
    assert!(one("nodes = 3\nstep = []\n").contains("2:8: there are no steps"));
    assert!(one("nodes = 3\nstep = 1\n").contains("2:8: the steps are a whole number"));
}

#[test]
fn levels() {
    let cases = [
        ("{ name = \"a\" }", "has no `order`"),
        ("{ order = 70 }", "has no `name`"),
        ("{ order = 0, name = \"a\" }", "`order` of [[level]] is 0, it must be 1 to 65535"),
        ("{ order = 70, name = \"a b\" }", "level name `a b` must be 1 to 16 letters"),
        ("{ order = 70, name = \"a23456789012345678\" }", "must be 1 to 16 letters"),
        ("{ order = 70, name = \"a\" }, { order = 70, name = \"b\" }", "level order 70 is used twice, by `a` and `b`"),
        ("{ order = 70, name = \"a\" }, { order = 71, name = \"a\" }", "two levels are named `a`"),
        ("{ order = 70, name = \"a\", only_on = [0, 3] }", "2:50: node 3 is not configured"),
        ("{ order = 70, name = \"a\", only_on = \"master\" }", "`only_on` must be a list of node numbers"),
        ("{ order = 70, name = \"a\", only_on = [0], hang = [1] }", "`hang` names nodes 1 that do not register"),
        ("{ order = 70, name = \"a\", hang = [] }", "`hang` is an empty list"),
        (
            "{ order = 70, name = \"a\", barriers = { joining = 17 } }",
            "`joining` of `barriers` is 17, it must be 1 to 16",
        ),
        ("{ order = 70, name = \"a\", barriers = { joined = 1 } }", "unknown key in `barriers`: `joined`"),
        ("{ order = 70, name = \"a\", barriers = 2 }", "`barriers` is a whole number, not a table"),
        ("{ order = 70, name = \"a\", work = 2 }", "unknown key in [[level]]: `work`"),
    ];
    for (level, want) in cases {
        let found = one(&format!("nodes = 3\nlevel = [{level}]\nstep = [{{ expect = \"master\" }}]\n"));
        assert!(found.contains(want) && found.starts_with("wrong.toml:2:"), "{level}\n{found}");
    }
    let many: Vec<String> = (1..=31).map(|n| format!("{{ order = {n}, name = \"level-number-{n}\" }}")).collect();
    let found = one(&format!("nodes = 3\nlevel = [{}]\nstep = [{{ expect = \"master\" }}]\n", many.join(", ")));
    assert!(found.contains("need a kernel command line of"), "{found}");
}

#[test]
fn steps() {
    let cases = [
        ("3", "4:1: a step is a whole number, not a table"),
        ("{ node = 1 }", "4:1: a step needs one of `do`, `wait`, `expect`"),
        ("{ do = \"kill\", wait = \"state\" }", "4:1: a step has only one of `do`, `wait`, `expect`"),
        ("{ do = 5 }", "4:8: `do` of a step is a whole number, not a string"),
        ("{ do = \"teleport\", node = 1 }", "4:8: unknown verb: `teleport`"),
        ("{ wait = \"stat\", within_ms = 1 }", "4:10: unknown condition: `stat`"),
        ("{ do = \"service\", node = 1 }", "4:8: unknown verb: `service`"),
        ("{ expect = \"lock\" }", "4:12: unknown condition: `lock`"),
        ("{ do = \"kill\" }", "4:1: a `kill` step has no `node`"),
        ("{ do = \"kill\", node = 3 }", "4:23: node 3 is not configured"),
        ("{ do = \"kill\", node = -1 }", "4:23: node -1 is not configured"),
        ("{ do = \"kill\", node = [0, 9] }", "4:27: node 9 is not configured"),
        ("{ do = \"kill\", node = [] }", "`node` is an empty list"),
        ("{ do = \"kill\", node = \"mastre\" }", "4:23: unknown node: `mastre`"),
        ("{ do = \"kill\", node = true }", "4:23: `node` is true or false, not a node"),
        ("{ do = \"kill\", node = \"$victim\" }", "4:23: $victim is never saved by an earlier step"),
        ("{ do = \"kill\", node = 0, noed = 1 }", "4:26: unknown key in a `kill` step: `noed`"),
        ("{ wait = \"master\" }", "4:1: a `master` step has no `within_ms`"),
        ("{ wait = \"master\", within_ms = \"1s\" }", "4:32: `within_ms` of a `master` step is a string"),
        ("{ wait = \"master\", within_ms = 0 }", "`within_ms` of a `master` step is 0, it must be 1 to 3600000"),
        ("{ expect = \"master\", within_ms = 5 }", "4:22: unknown key in a `master` step: `within_ms`"),
        ("{ do = \"sleep\", ms = 1, save = \"x\" }", "hits no node that could be saved"),
        ("{ do = \"kill\", node = 0, save = \"$x\" }", "`$x` is no name"),
        ("{ do = \"snapshot\" }", "a `snapshot` step has no `save`"),
        ("{ do = \"start\", node = 0, as = 64 }", "`as` of a `start` step is 64, it must be 0 to 63"),
        ("{ do = \"start\", node = 0, as = 1, identity = false }", "`as` needs `identity`"),
        ("{ do = \"start\", node = 0, disk = 1 }", "`disk` of a `start` step is a whole number, not true or false"),
        ("{ do = \"repeat\", times = 2, steps = [{ do = \"kil\", node = 0 }] }", "4:45: unknown verb: `kil`"),
        ("{ do = \"repeat\", steps = [{ expect = \"master\" }] }", "a `repeat` step has no `times`"),
        ("{ do = \"repeat\", times = 2, steps = [] }", "there are no steps"),
    ];
    for (step, want) in cases {
        let found = one_step(step);
        assert!(found.contains(want), "{step}\n{found}");
    }
}

#[test]
fn verbs_and_their_keys() {
    let cases = [
        ("{ do = \"command\", node = 0 }", "a `command` step has no `text`"),
        ("{ do = \"command\", node = 0, text = \"a\\nb\" }", "`text` must be one line"),
        ("{ do = \"command\", node = 0, text = \"x\", reply = \"(\" }", "4:49: `reply` is no regular expression"),
        ("{ do = \"cut\" }", "a `cut` step has no `from`"),
        ("{ do = \"loss\" }", "a `loss` step has no `percent`"),
        ("{ do = \"loss\", percent = 101 }", "`percent` must be a number from 0 to 100"),
        ("{ do = \"delay\", jitter_ms = 5 }", "a `delay` step has no `ms`"),
        ("{ do = \"disk_cut\", node = 0, mode = \"slow\" }", "unknown mode: `slow`"),
        ("{ do = \"disk_error\", node = 0 }", "a `disk_error` step has no `op`"),
        ("{ do = \"disk_error\", node = 0, op = \"erase\" }", "unknown op: `erase`"),
        ("{ do = \"disk_error\", node = 0, op = \"read\", count = 0 }", "`count` of a `disk_error` step is 0"),
        ("{ do = \"inject\" }", "an `inject` step needs either `hex`, `file` or `hostile`"),
        ("{ do = \"inject\", hex = \"00\", hostile = \"all\" }", "either `hex`, `file` or `hostile`"),
        (
            "{ do = \"inject\", hostile = [\"kind\"], rate = 1, for_ms = 1 }",
            "`hostile` must be \"all\" or a list of: replayed",
        ),
        ("{ do = \"inject\", hostile = [], rate = 1, for_ms = 1 }", "`hostile` has no kind"),
        ("{ do = \"inject\", hostile = \"all\", rate = 1 }", "hostile frames need `rate` and `for_ms`"),
        ("{ do = \"inject\", hex = \"abc\" }", "`hex` must be pairs of hexadecimal digits"),
        ("{ do = \"inject\", hex = \"zz\" }", "`hex` must be pairs of hexadecimal digits"),
        ("{ do = \"inject\", hex = [] }", "`hex` has no frame"),
        ("{ do = \"inject\", hex = \"00\", for_ms = 5 }", "`for_ms` without `rate`"),
        ("{ do = \"inject\", file = \"no-such.pcap\" }", "cannot take frames from no-such.pcap"),
        ("{ do = \"image\", edit = \"burn\" }", "unknown edit: `burn`"),
        ("{ do = \"image\", edit = \"disable\" }", "a `image` step has no `node`"),
        ("{ do = \"image\", edit = \"weight\", node = 1 }", "has no `weight`"),
        ("{ do = \"image\", edit = \"timing\" }", "has no `timing`"),
        (
            "{ do = \"image\", edit = \"timing\", timing = { dead = 900 } }",
            "lease * 1.01 + io_max must be below dead * 0.99",
        ),
        ("{ do = \"image\", edit = \"timing\", timing = { leese = 900 } }", "unknown key"),
        ("{ do = \"sleep\" }", "a `sleep` step has no `ms`"),
    ];
    for (step, want) in cases {
        let found = one_step(step);
        assert!(found.contains(want), "{step}\n{found}");
    }
}

#[test]
fn conditions_and_their_keys() {
    let cases = [
        ("{ expect = \"state\", is = \"joined\" }", "a `state` step has no `subject`"),
        ("{ expect = \"state\", subject = 0 }", "a `state` step has no `is`"),
        ("{ expect = \"state\", subject = 0, is = \"jioned\" }", "4:39: unknown state: `jioned`"),
        ("{ expect = \"state\", subject = 0, is = \"joined\", level = 71 }", "4:57: unknown level: 71"),
        ("{ expect = \"state\", subject = 0, is = \"joined\", level = \"prob\" }", "unknown level: \"prob\""),
        ("{ expect = \"panicked\" }", "a `panicked` step has no `node`"),
        ("{ expect = \"panicked\", node = 0, reason = \"[\" }", "`reason` is no regular expression"),
        ("{ expect = \"event\" }", "a `event` step has no `ev`"),
        ("{ expect = \"event\", ev = \"vew\" }", "4:26: unknown event: `vew`"),
        ("{ expect = \"no_event\", ev = \"view\", phase = \"x\" }", "4:37: unknown field of `view`: `phase`"),
        ("{ expect = \"event\", ev = \"view\", ballot = \"x\" }", "field `ballot` cannot be compared with a string"),
        ("{ expect = \"event\", ev = \"view\", states = { 5 = \"joined\" } }", "node 5 is not configured"),
        ("{ expect = \"event\", ev = \"view\", since = \"noon\" }", "unknown `since`: `noon`"),
        ("{ expect = \"event\", ev = \"state\", subject = 4 }", "node 4 is not configured"),
        ("{ expect = \"order\", first = { ev = \"boot\" } }", "a `order` step has no `then`"),
        ("{ expect = \"order\", every = { ev = \"boot\" } }", "a `order` step has no `then`"),
        (
            "{ expect = \"order\", first = { ev = \"boot\", x = 1 }, then = { ev = \"boot\" } }",
            "unknown field of `boot`",
        ),
        ("{ expect = \"unchanged\", snapshot = \"$s\" }", "4:36: no earlier `snapshot` step saves $s"),
    ];
    for (step, want) in cases {
        let found = one_step(step);
        assert!(found.contains(want), "{step}\n{found}");
    }
    let region =
        "{ do = \"snapshot\", save = \"s\" },\n{ expect = \"unchanged\", snapshot = \"$s\", region = \"hartbeat.1\" }";
    assert!(one_step(region).contains("5:51: unknown region: `hartbeat.1`"));
    let both = "{ do = \"snapshot\", save = \"s\" },\n{ do = \"kill\", node = 0, save = \"s\" }";
    assert!(one_step(both).contains("$s names nodes and a snapshot"));
}

#[test]
fn a_name_is_known_only_after_its_step() {
    let text = with_steps("{ do = \"kill\", node = \"$v\" }, { do = \"kill\", node = 0, save = \"v\" }");
    assert!(one(&text).contains("4:23: $v is never saved"));
    let good = with_steps("{ do = \"kill\", node = 0, save = \"v\" }, { do = \"start\", node = \"$v\" }");
    assert!(Scenario::parse(Source::new("good.toml", good)).is_ok());
}

#[test]
fn one_file_may_be_several_scenarios_by_number_of_nodes() {
    let file = |nodes: &str, step: &str| Source::new("fig.toml", format!("nodes = {nodes}\nstep = [{step}]"));
    let start = "{ do = \"start\", node = \"all but 0, 1\" }";
    let all = Scenario::parse_all(file("[2, 3, 5]", start)).unwrap();
    let names: Vec<_> = all.iter().map(|s| (s.name.as_str(), s.nodes)).collect();
    assert_eq!(names, [("fig-2", 2), ("fig-3", 3), ("fig-5", 5)]);
    assert_eq!(Scenario::parse_all(file("3", start)).unwrap()[0].name, "fig");
    for (nodes, step, want) in [
        ("[]", start, "`nodes` is an empty list"),
        ("[2, 2]", start, "`nodes` has 2 twice"),
        ("[2, 65]", start, "`nodes` has 65, not 1 to 64 nodes"),
        ("[2, \"x\"]", start, "`nodes` has a string, not 1 to 64 nodes"),
        ("[3, 2]", "{ do = \"start\", node = 2 }", "node 2 is not configured"),
        ("2", "{ do = \"start\", node = \"all but 2\" }", "`2` behind `all but` is no configured node"),
        ("2", "{ do = \"start\", node = \"all but\" }", "unknown node"),
    ] {
        let found = Scenario::parse_all(file(nodes, step)).unwrap_err().to_string();
        assert!(found.contains(want), "{nodes} {step}\n{found}");
    }
}

#[test]
fn a_level_may_differ_from_node_to_node() {
    let file = |levels: &str| {
        let steps = "step = [{ do = \"start\", node = \"all\" }]";
        Scenario::parse(Source::new("x.toml", format!("nodes = 3\n{steps}\nlevel = [{levels}]")))
    };
    let ours = "{ order = 70, name = \"probe\", only_on = [0, 1], everywhere = true, deadline_ms = 900 }";
    let theirs = "{ order = 70, name = \"probe\", only_on = [2], barriers = { joining = 2 } }";
    let both = file(&format!("{ours}, {theirs}")).unwrap();
    let found: Vec<_> =
        both.levels.iter().map(|l| (l.order, l.barriers.joining, l.everywhere, l.deadline_ms)).collect();
    assert_eq!(found, [(70, 1, true, 900), (70, 2, false, 0)]);
    for (second, want) in [
        ("{ order = 70, name = \"probe\", only_on = [1, 2] }", "level order 70 is used twice"),
        ("{ order = 70, name = \"other\" }", "level order 70 is used twice"),
        ("{ order = 80, name = \"probe\", only_on = [2] }", "two levels are named `probe`"),
        ("{ order = 80, name = \"x\", deadline_ms = 0 }", "`deadline_ms`"),
        ("{ order = 80, name = \"x\", everywhere = 1 }", "`everywhere`"),
    ] {
        let problems = file(&format!("{ours}, {second}")).unwrap_err().to_string();
        assert!(problems.contains(want), "{second}\n{problems}");
    }
}

#[test]
fn a_level_that_is_registered_at_run_time_is_known_after_that() {
    let register = "{ do = \"command\", node = 0, text = \"register 120:late:1:1:1:0:0:0\" }";
    let wait = "{ wait = \"state\", subject = 0, is = \"joined\", level = 120, within_ms = 1 }";
    let good = with_steps(&format!("{register}, {wait}"));
    assert!(Scenario::parse(Source::new("good.toml", good)).is_ok());
    assert!(one(&with_steps(&format!("{wait}, {register}"))).contains("unknown level: 120"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let found = Scenario::read(std::path::Path::new("no/such.toml")).unwrap_err();
    assert!(found.to_string().contains("cannot read no/such.toml"), "{found}");
    assert!(found.render(false).contains("no/such.toml"));
}

#[test]
fn the_example_of_the_contract_is_understood() {
    let text = r#"
name  = "kill-the-master"
nodes = 3
seed  = 1
[timing]
profile = "default"
net_heartbeat = 100
net_suspect   = 400
disk_heartbeat = 200
disk_suspect   = 400
io_max = 200
lease = 800
dead  = 1200
outage_grace = 30000
[[level]]
order = 70
name  = "probe"
barriers = { joining = 2, leaving = 1, forced_leaving = 3 }
work_ms = 20
hang = [2]
only_on = [0, 1, 2]
[[step]]
do = "start"
node = "all"
[[step]]
wait = "state"
subject = "all"
is = "joined"
within_ms = 20000
[[step]]
do = "kill"
node = "master"
save = "victim"
[[step]]
wait = "state"
subject = "$victim"
is = "inactive"
within_ms = 5000
[[step]]
expect = "master"
"#;
    let s = Scenario::parse(Source::new("x.toml", text)).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!((s.name.as_str(), s.nodes, s.seed, s.steps.len()), ("kill-the-master", 3, 1, 5));
    assert_eq!(s.timing, quorate_base::Timing::DEFAULT);
    assert_eq!(s.levels[0].barriers, quorate_base::Barriers { joining: 2, leaving: 1, forced_leaving: 3 });
    assert_eq!(s.steps[3].what, "wait state subject=\"$victim\" is=\"inactive\" within_ms=5000");
}

#[test]
fn any_text_gets_an_answer() {
    // Every prefix of a good file, and the file with each byte changed, parses or has a problem; nothing panics.
    let good = with_steps("{ do = \"kill\", node = [0, 1], save = \"v\" }, { expect = \"event\", ev = [\"view\"] }");
    for end in 0..good.len() {
        let _ = Scenario::parse(Source::new("p.toml", &good[..end])).map_err(|p| p.render(false));
        for c in ['"', '[', '9', '$', '\n', 'é'] {
            let changed = format!("{}{c}{}", &good[..end], &good[end + 1..]);
            let _ = Scenario::parse(Source::new("p.toml", changed)).map_err(|p| p.render(false));
        }
    }
}

#[test]
fn the_keys_of_chaos() {
    let cases = [
        (r#"{ do = "chaos" }"#, "4:1: a `chaos` step has no `for_ms`"),
        (r#"{ do = "chaos", for_ms = 0 }"#, "`for_ms` of a `chaos` step is 0, it must be 1 to"),
        (r#"{ do = "chaos", for_ms = 9, every = 1 }"#, "unknown key in a `chaos` step: `every`"),
        (r#"{ do = "chaos", for_ms = 9, kinds = { kil = 1 } }"#, "unknown kind of fault: `kil`"),
        (r#"{ do = "chaos", for_ms = 9, kinds = { kill = 0 } }"#, "`kinds` has no kind of fault with a weight"),
        (r#"{ do = "chaos", for_ms = 9, kinds = { kill = 1001 } }"#, "it must be 0 to 1000"),
        (r#"{ do = "chaos", for_ms = 9, kinds = 3 }"#, "`kinds` is a whole number, not a table"),
        (r#"{ do = "chaos", for_ms = 9, node = 7 }"#, "node 7 is not configured"),
        (r#"{ expect = "event", ev = "view", each = true }"#, "`each` needs `node`"),
    ];
    for (step, want) in cases {
        let found = one_step(step);
        assert!(found.contains(want), "{step}\n{found}");
    }
}

#[test]
fn a_pause_may_wait_for_an_idle_disk_and_nothing_else_may() {
    let text = with_steps(
        r#"{ do = "pause", node = 0, disk_idle_ms = 1 }, { do = "pause", node = [1, 2], disk_idle_ms = 1000 },
           { do = "pause", node = "all" }"#,
    );
    let scenario = Scenario::parse(Source::new("right.toml", text)).unwrap_or_else(|p| panic!("{p}"));
    let verbs = scenario.steps.iter().filter_map(|step| match &step.kind {
        StepKind::Do(Action::Machine { verb, .. }) => Some(*verb),
        _ => None,
    });
    let want = [MachineVerb::PauseAtIdle(1), MachineVerb::PauseAtIdle(1000), MachineVerb::Pause];
    assert_eq!(verbs.collect::<Vec<_>>(), want);
    let cases = [
        (r#"{ do = "pause", node = 0, disk_idle_ms = 0 }"#, "it must be 1 to 1000"),
        (r#"{ do = "pause", node = 0, disk_idle_ms = 1001 }"#, "it must be 1 to 1000"),
        (r#"{ do = "pause", node = 0, disk_idle_ms = "50" }"#, "`disk_idle_ms`"),
        (r#"{ do = "pause", disk_idle_ms = 50 }"#, "a `pause` step has no `node`"),
        (r#"{ do = "freeze", node = 0, disk_idle_ms = 50 }"#, "unknown key in a `freeze` step: `disk_idle_ms`"),
        (r#"{ do = "resume", node = 0, disk_idle_ms = 50 }"#, "unknown key in a `resume` step: `disk_idle_ms`"),
        (r#"{ do = "kill", node = 0, disk_idle_ms = 50 }"#, "unknown key in a `kill` step: `disk_idle_ms`"),
    ];
    for (step, want) in cases {
        let found = one_step(step);
        assert!(found.contains(want), "{step}\n{found}");
    }
}

#[test]
fn the_keys_of_disk_faults() {
    let cases = [
        (r#"{ do = "disk_error", node = 0 }"#, "a `disk_error` step has no `op`"),
        (r#"{ do = "disk_error", node = 0, op = "read", count = "al" }"#, "unknown count: `al`"),
        (r#"{ do = "disk_error", node = 0, op = "read", count = 0 }"#, "it must be 1 to 1000000"),
        (r#"{ do = "disk_error", node = 0, op = "read", region = "hartbeat.1" }"#, "`hartbeat.1` is no region"),
        (r#"{ do = "disk_error", node = 0, op = "read", region = "heartbeat.3" }"#, "that node is not configured"),
        (r#"{ do = "disk_misdirect", node = 0, region = "ballot.0" }"#, "a `disk_misdirect` step has no `to`"),
        (
            r#"{ do = "disk_misdirect", node = 0, region = "ballot.0", to = "heartbeat.1" }"#,
            "`region` has 2 records and `to` has 1",
        ),
        (r#"{ do = "disk_misdirect", node = 0, region = "ballot.0", to = "ballot.0" }"#, "the same place"),
        (r#"{ do = "disk_stale", node = 0 }"#, "a `disk_stale` step has no `region`"),
        (r#"{ do = "disk_lose", node = 0, op = "read" }"#, "unknown key in a `disk_lose` step: `op`"),
        (r#"{ do = "disk_swap", node = 0, region = "ballot.0" }"#, "unknown key in a `disk_swap` step: `region`"),
        (r#"{ do = "disk_tear", node = 0, bytes = 512 }"#, "it must be 1 to 511"),
    ];
    for (step, want) in cases {
        let found = one_step(step);
        assert!(found.contains(want), "{step}\n{found}");
    }
}
