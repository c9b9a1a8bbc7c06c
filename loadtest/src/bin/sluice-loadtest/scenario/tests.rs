use super::*;

fn source(text: &str) -> Source {
    Source { path: "load.toml".into(), text: text.to_owned() }
}

fn scenario(text: &str) -> Result<Scenario, ConfigError> {
    Scenario::of(&source(text), &Overrides::default())
}

const FILE: &str = "[[files]]\nname = \"a.bin\"\nsize = 1000\n";

#[test]
fn the_sample_shows_the_usual_values() {
    let sample = Scenario::of(&Source::load(None).unwrap(), &Overrides::default()).unwrap();
    let usual = scenario(FILE).unwrap();
    assert_eq!((sample.seed, sample.duration, sample.warm_up), (usual.seed, usual.duration, usual.warm_up));
    assert_eq!((sample.drain, &sample.load), (usual.drain, &usual.load));
    assert_eq!(format!("{:?}", sample.client), format!("{:?}", usual.client));
    assert_eq!(sample.files.count(), 210);
    assert_eq!(sample.files.name(209), "sample/large-9.bin");
    assert_eq!(sample.files.generated().count(), 210);
    let text = USUAL.replace("model = \"closed\"", "model = \"open\"");
    let usual = scenario(&format!("load.model = \"open\"\n{FILE}")).unwrap();
    assert_eq!(scenario(&text).unwrap().load, usual.load);
}

#[test]
fn the_demo_s_scenario_is_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/demo-load.toml");
    let demo = Scenario::of(&Source::load(Some(&path)).unwrap(), &Overrides::default()).unwrap();
    assert_eq!(demo.files.count(), 3);
}

#[test]
fn faults_name_line_and_key() {
    let faults = [
        ("duration = \"0s\"", "load.toml:1:12: has to be more than nothing", "`duration`"),
        ("[load]\nrate = -1.0\nmodel = \"open\"", ":2:8: has to be more than 0", "`rate`"),
        ("[load]\nmodel = \"both\"", ":2:", "`model`"),
        ("[load]\nrates = 5", ":2:1: unknown field", "`rates`"),
        ("[load]\n[[load.stages]]\nfor = \"1s\"\nto = -5", ":4:6: has to be from 0", "`to`"),
        ("[client]\ntries = 0", ":2:9: has to be 1 at least", "`tries`"),
        ("[client]\nsilence_max = \"0s\"", ":2:15:", "`silence_max`"),
        ("[client]\nca_file = \"missing.pem\"", ":2:11: missing.pem", "`ca_file`"),
        ("[caller]\nscheme = \"signature\"", ":2:10: needs `access_key`", "`scheme`"),
        ("[caller]\nscheme = \"sealed\"", ":2:10: goes with via", "`scheme`"),
        ("[[requests]]\nkind = \"range\"\nbytes = 0", ":3:9: has to be more than 0", "`bytes`"),
        ("[[requests]]\nbytes = 5", ":2:9: is for kind", "`bytes`"),
        ("[[requests]]\nkind = \"abort\"\nafter = 1.5", ":3:9: is a part of the file", "`after`"),
        ("[[requests]]\nrate = 1", ":2:8: is bytes a second", "`rate`"),
        ("[[requests]]\nweight = 0.0", ":2:10: has to be more than 0", "`weight`"),
        ("[[files]]\nname = \"../x\"\nsize = 5", ":2:8: is no file id", "`name`"),
        ("[[files]]\nname = \"x\"\ncount = 5\nsize = 5", ":2:8: has to hold {n}", "`name`"),
        ("[[files]]\nname = \"x\"", ":2:8: has generated content", "`name`"),
        ("[[files]]\nname = \"x\"\nsize = [\"2KiB\", \"1KiB\"]", ":3:8: is the least size first", "`size`"),
        ("[[files]]\nname = \"x\"\nsize = \"big\"", ":3:8:", "`size`"),
        ("[[files]]\nname = \"x\"\nsize = 5\nzipf = -1.0", ":4:8: is an exponent", "`zipf`"),
        ("[[files]]\nmanifest = \"missing\"", ":2:12: names missing", "`manifest`"),
        ("[[files]]\nweight = 1.0", ":1:", "either `name` or `manifest`"),
    ];
    for (text, place, named) in faults {
        let fault = scenario(&format!("{text}\n{FILE}")).unwrap_err().to_string();
        assert!(fault.starts_with("load.toml:") && fault.contains(place) && fault.contains(named), "{fault}");
    }
    assert!(scenario("").unwrap_err().to_string().contains("[[files]]"));
}

#[test]
fn a_manifest_is_what_sha256sum_writes() {
    let folder = tempfile::tempdir().unwrap();
    let hash = "ab".repeat(32);
    let write = |text: &str| std::fs::write(folder.path().join("SHA256SUMS"), text).unwrap();
    let load = || {
        let text = "[[files]]\nmanifest = \"SHA256SUMS\"\n".to_owned();
        Scenario::of(&Source { path: folder.path().join("load.toml"), text }, &Overrides::default())
    };
    write(&format!("{hash}  ./a b.bin\n{hash} *c/d.bin\n"));
    let files = load().unwrap().files;
    assert_eq!((files.count(), files.name(0), files.name(1)), (2, "a b.bin".into(), "c/d.bin".into()));
    assert_eq!(files.group(1).checked(1), Checked::Sha256([0xab; 32]));
    for (text, fault) in [("", "lists no file"), ("xyz  a", "line 1"), (&format!("{hash}  /a"), "line 1")] {
        write(text);
        let said = load().unwrap_err().to_string();
        assert!(said.contains(fault) && said.contains("load.toml:2:12"), "{said}");
    }
}

#[test]
fn what_the_command_line_says_wins() {
    let overrides =
        Overrides { rate: Some(5.0), duration: Some(Duration::from_secs(1)), ..Overrides::default() };
    let text = format!("duration = \"9s\"\n[load]\nclients = 3\n{FILE}");
    let scenario = Scenario::of(&source(&text), &overrides).unwrap();
    assert_eq!(scenario.duration, Duration::from_secs(1));
    assert!(matches!(&scenario.load, Load::Open { rate, .. } if (rate.at(0.0) - 5.0).abs() < 1e-9));
    let overrides = Overrides { rate: Some(-5.0), ..Overrides::default() };
    assert!(Scenario::of(&source(&text), &overrides).unwrap_err().to_string().contains("`rate`"));
}

#[test]
fn sizes_between_two_follow_from_the_names() {
    let text = "[[files]]\nname = \"f/{n}\"\ncount = 1000\nsize = [\"1KiB\", \"1MiB\"]";
    let sizes: Vec<u64> =
        scenario(text).unwrap().files.generated().map(|(_, content)| content.size()).collect();
    assert!(sizes.iter().all(|size| (1 << 10..=1 << 20).contains(size)));
    // Half of them below the middle of the octaves.
    let small = sizes.iter().filter(|size| **size < 32 << 10).count();
    assert!((400..600).contains(&small), "{small}");
    let again: Vec<u64> =
        scenario(text).unwrap().files.generated().map(|(_, content)| content.size()).collect();
    assert_eq!(sizes, again);
}
