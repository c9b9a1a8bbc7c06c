//! What a pick costs, and a change of the edges, by the size of the cluster: zones of a hundred edges at most, as large
//! clusters are laid out.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sluice_benches::subjects::{NOW, cluster, places, questions};
use sluice_coordinator::routing::Question;
use sluice_coordinator::routing::hot::HotFiles;
use sluice_coordinator::routing::load::LoadReport;
use sluice_coordinator::routing::standing::State;

const EDGES: [u32; 4] = [10, 100, 1_000, 10_000];

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for edges in EDGES {
        let (_, _, snapshot) = cluster(edges);
        for (name, fan_out) in [("plain", 1), ("hot", 8)] {
            let mut questions = questions(&snapshot, edges, fan_out);
            group.bench_function(BenchmarkId::new(name, edges), |b| {
                b.iter(|| snapshot.pick(&questions.next().expect("it goes on for ever")).first().is_some());
            });
        }
        // Of no zone: each file's zone is found among all.
        let anywhere = IpAddr::from([192, 0, 2, 1]);
        let mut places = places();
        group.bench_function(BenchmarkId::new("start-of-no-zone", edges), |b| {
            b.iter(|| snapshot.start(places.next().expect("it goes on for ever"), anywhere).key());
        });
        let hot = HotFiles::new(1000.0);
        let mut whole = questions(&snapshot, edges, 1);
        let mut now = NOW;
        group.bench_function(BenchmarkId::new("counted-and-assigned", edges), |b| {
            b.iter(|| {
                // As one busy coordinator would.
                now += Duration::from_micros(5);
                let question = whole.next().expect("it goes on for ever");
                let fan_out = hot.observe(question.start.key(), now);
                let first = snapshot.pick(&Question { now, fan_out, ..question }).first();
                first.expect("there are edges").assign(now);
            });
        });
        let (_, members, snapshot) = cluster(edges);
        // Every other edge is over its bound.
        for member in members.iter().step_by(2) {
            let report = LoadReport { in_flight_bytes: 1 << 40, ..LoadReport::default() };
            snapshot.report(&member.edge.record.id, &report, NOW);
        }
        let mut questions = questions(&snapshot, edges, 1);
        group.bench_function(BenchmarkId::new("bounded", edges), |b| {
            b.iter(|| snapshot.pick(&questions.next().expect("it goes on for ever")).first().is_some());
        });
    }
    group.finish();
}

fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    group.sample_size(10);
    for edges in EDGES {
        let (mut rings, members, _) = cluster(edges);
        let fewer = members[..members.len() - 1].to_vec();
        let mut turn = 0_u32;
        // An edge leaves, and comes back: two changes an iteration would be hard to read, so they take turns.
        group.bench_function(BenchmarkId::new("membership", edges), |b| {
            b.iter(|| {
                turn += 1;
                let members = if turn % 2 == 1 { &fewer } else { &members };
                black_box(rings.snapshot(members.clone(), Duration::ZERO))
            });
        });
        let mut down = members.clone();
        down[0].news.state = State::Down;
        rings.snapshot(members.clone(), Duration::ZERO);
        group.bench_function(BenchmarkId::new("death", edges), |b| {
            b.iter(|| black_box(rings.snapshot(down.clone(), Duration::ZERO)));
        });
    }
    group.finish();
}

criterion_group!(benches, pick, change);
criterion_main!(benches);
