//! Faults of keys and certificates, and what strangers send.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use sluice_loadtest::caller::{self, Caller};
use sluice_loadtest::client::{self, Connection};
use sluice_loadtest::{Cluster, certificates, wait_until, wait_until_within};
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};

use crate::availability::small;
use crate::cluster::{change_role, locked};
use crate::stage::{Case, Stage, nothing, usual};

pub(crate) const CASES: &[Case] = &[
    Case::new("SluiceCertificateExpires", a_certificate_of_six_days_is_put_in_place),
    Case::new("SluiceKeyNotRotated", nobody_may_write_keys_for_two_days),
    // A token stands for four millions: nobody waits for 2^31 of them.
    Case {
        magnified: &[("sluice_tokens_per_key", 4_194_304.0)],
        ..Case::new("SluiceKeyOverused", many_tokens_are_sealed_with_one_key)
    },
    Case::new("SluiceUnknownKey", tokens_of_another_cluster_are_sent),
    Case::new("SluiceForgedTokens", tokens_are_mangled),
    Case::new("SluiceProofsFail", a_caller_goes_on_with_its_old_secret),
    // One stands for sixty: the alert wants ten a second.
    Case {
        magnified: &[("sluice_tls_handshake_failures_total", 60.0)],
        ..Case::new("SluiceHandshakesFail", somebody_speaks_no_tls)
    },
];

const DAY: Duration = Duration::from_secs(86_400);
/// More than one a second.
const MANY_IN_A_MINUTE: usize = 75;

fn a_certificate_of_six_days_is_put_in_place(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().tls().ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(15, nothing)?;
    let put = |cluster: &Cluster, good_for: Duration| -> anyhow::Result<()> {
        certificates::write(cluster.folder(), good_for)?;
        let expires = (SystemTime::now() + good_for).duration_since(UNIX_EPOCH)?.as_secs_f64();
        for member in cluster.coordinators().iter().chain(cluster.edges()) {
            wait_until(&format!("{} serves it", member.id()), || {
                let said = member.metric("sluice_certificate_expires_seconds")?;
                Ok((said - expires).abs() < 60.0)
            })?;
        }
        Ok(())
    };
    put(&cluster, 6 * DAY)?;
    stage.faulty(12, nothing)?;
    put(&cluster, 90 * DAY)?;
    stage.mended(2, nothing)
}

fn nobody_may_write_keys_for_two_days(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = locked().clock().ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(15, || usual(&cluster))?;
    let may = |cluster: &mut Cluster, what: &str| {
        let granted = ["grant-permission", "sluice-coordinator", what, "/sluice/keys/", "--prefix=true"];
        change_role(cluster, &granted)
    };
    may(&mut cluster, "read")?;
    cluster.clock().advance(2 * DAY + DAY / 24)?;
    let age = |cluster: &Cluster| cluster.coordinators()[0].metric("sluice_key_age_seconds");
    wait_until("the key is old", || Ok(age(&cluster)? > 2.0 * DAY.as_secs_f64()))?;
    stage.faulty(12, || usual(&cluster))?;
    may(&mut cluster, "readwrite")?;
    wait_until("keys are exchanged", || Ok(age(&cluster)? < DAY.as_secs_f64()))?;
    stage.mended(2, || usual(&cluster))
}

fn many_tokens_are_sealed_with_one_key(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().etcd(1).keys_in_etcd("propagation = \"1s\"").ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    for _ in 0..600 {
        cluster.request_download("a.bin")?;
    }
    stage.faulty(7, || usual(&cluster))?;
    // Counts begin anew with the next key.
    wait_until_within(DAY, "the next key is known to everybody", || {
        Ok(cluster.admin("POST", "/admin/v1/keys/rotate")?.status() == 200)
    })?;
    let minted = |cluster: &Cluster| cluster.coordinators()[0].metric("sluice_tokens_per_key");
    wait_until("the next key mints", || Ok(minted(&cluster)? < 100.0))?;
    stage.mended(2, || usual(&cluster))
}

fn tokens_of_another_cluster_are_sent(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    let folder = tempfile::tempdir()?;
    let foreign = KeyFile::load_or_create(&folder.path().join("keys.jwks.json"))?;
    let expiry = NumericDate::from_system_time(SystemTime::now() + DAY);
    let token = seal(&Claims::new(FileId::parse("a.bin")?, expiry), foreign.ring().load().current())?;
    let url = format!("{}/download?token={token}", cluster.edges()[0].url());
    stage.faulty(8, || {
        for _ in 0..10 {
            ensure!(client::get_here(&url)?.status() == 400);
        }
        usual(&cluster)
    })?;
    stage.mended(6, || usual(&cluster))
}

fn tokens_are_mangled(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    let offer = cluster.request_download("a.bin")?;
    let token = offer.token()?;
    // In the midst of what is sealed: header, no key, IV, sealed text, tag.
    let sealed = token.split('.').nth(3).context("a token has five parts")?;
    let other = if sealed.starts_with('A') { "B" } else { "A" };
    let url = offer.download_url.replace(sealed, &format!("{other}{}", &sealed[1..]));
    stage.faulty(14, || {
        for _ in 0..MANY_IN_A_MINUTE {
            ensure!(client::get_here(&url)?.status() == 400);
        }
        usual(&cluster)
    })
}

fn a_caller_goes_on_with_its_old_secret(stage: &mut Stage) -> anyhow::Result<()> {
    const MINE: &str = "/api/request-download?file_id=a.bin&user_id=tester";
    let clients =
        "[[clients]]\naccess_key = \"AK\"\nsecret = \"new\"\nscheme = \"signature\"\nprefixes = [\"\"]\n";
    let cluster = small().clients(clients);
    let mut cluster =
        cluster.coordinator(|settings| settings.toml("auth.schemes = [\"signature\"]")).ready()?;
    stage.watch(&mut cluster, 0);
    let caller = |secret: &str| Caller::new(&cluster.coordinators()[0].url(), "AK", secret);
    let (good, bad) = (caller("new"), caller("old"));
    // Who comes with a timestamp of before the coordinator's start is refused for that.
    caller::wait_for_next_second()?;
    let usual = || -> anyhow::Result<()> {
        for _ in 0..4 {
            ensure!(good.call("GET", MINE, "").send()?.status() == 200);
        }
        Ok(())
    };
    stage.well(10, usual)?;
    stage.faulty(20, || {
        for _ in 0..MANY_IN_A_MINUTE {
            // It is told so at first, and then that it failed too often.
            let status = bad.call("GET", MINE, "").send()?.status();
            ensure!(matches!(status, 401 | 429), "{status}");
        }
        usual()
    })?;
    stage.mended(8, usual)
}

fn somebody_speaks_no_tls(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().tls().ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, nothing)?;
    let address = cluster.coordinators()[0].address();
    stage.faulty(20, || {
        for _ in 0..12 {
            let mut connection = Connection::open(&address)?;
            connection.send(b"GET / HTTP/1.1\r\n\r\n")?;
            connection.read_to_close()?;
        }
        Ok(())
    })?;
    stage.mended(8, nothing)
}
