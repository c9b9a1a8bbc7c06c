//! Explanations: they are of the pick that is made.

use super::zones::zoned;
use super::*;

#[test]
fn an_explanation_is_of_the_pick_that_is_made() {
    let (mut rings, mut members) = zoned();
    set_state(&mut members, "a-2", State::Draining);
    members.iter_mut().find(|member| member.edge.record.id.as_str() == "b-1").unwrap().fresh_since =
        Some(secs(0.0));
    let snapshot = rings.snapshot(members, Duration::ZERO);
    let hot = HotFiles::new(100.0);
    for n in 0..3000_u32 {
        let name = (n % 40).to_string();
        let file = FileId::parse(&*name).unwrap();
        let now = secs(f64::from(n) / 3000.0);
        let client = ["10.1.0.1", "10.2.0.1", ANYWHERE][n as usize % 3];
        let explained = snapshot.explain(&file, client.parse().unwrap(), &hot, now);
        let question = question(&snapshot, &name, client, now.as_secs_f64());
        let picked = snapshot.pick(&question);
        let explained: Vec<_> = explained.candidates.iter().map(ToString::to_string).collect();
        assert_eq!(explained, ids(&picked));
        picked.first().unwrap().assign(now);
    }
}

#[test]
fn an_explanation_says_why_in_words() {
    let (mut rings, mut members) = zoned();
    set_state(&mut members, "a-2", State::Draining);
    let snapshot = rings.snapshot(members, Duration::ZERO);
    let hot = HotFiles::new(10.0);
    let key = snapshot.start(ring::place(b"film"), "10.1.0.1".parse().unwrap()).key();
    for _ in 0..15 {
        hot.observe(key, secs(0.5));
    }
    let file = FileId::parse("film").unwrap();
    let explained = snapshot.explain(&file, "10.1.0.1".parse().unwrap(), &hot, secs(0.5));
    assert_eq!((explained.fan_out, explained.rate, explained.trust), (2, 15.0, Trust::News));
    let text: String = explained
        .steps
        .iter()
        .map(|step| {
            format!("{} {}: {}\n", step.zone, step.edge.as_ref().map_or("-", EdgeId::as_str), step.text)
        })
        .collect();
    for part in [
        "a -: 10.1.0.1 is a client of this zone\n",
        "a -: 2 of its 3 edges get requests\n",
        "a -: the file is hot: 2 edges share it",
        "a-1: is taken: its load is 0.0 bodies, its bound 32\n",
        "c -: 3 of its 3 edges get requests\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(hot.rate(key, secs(0.5)), 15.0, "asking why is no request");
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json["trust"], "news");
    assert_eq!(json["steps"][0]["finding"], "zone");
}
