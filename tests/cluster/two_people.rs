//! Two people of one namespace who ask for the same id: one branch, which lives for as long as either has it.

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, sql};
use serde_json::json;

use crate::doors::{BRANCHES, EXEC, PODS};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::sessions::{ids, json};
use crate::shop::Shop;
use crate::stage::{Stage, count_branches};
use crate::users::{Right, User};

const FORWARD: Right<'_> = ("", &["pods/portforward"], &["create", "get"]);

const STOCK: &str = "SELECT stock_quantity FROM products WHERE product_id = '1'";

fn person<'a>(cluster: &'a Cluster, shop: &Shop<'_>, name: &str) -> Result<User<'a>> {
    let rights = [BRANCHES, EXEC, PODS, FORWARD];
    let mut user = User::new(cluster, shop.namespace(), name, &rights)?;
    user.env.set("DATABASE_URL", shop.source());
    Ok(user)
}

/// The words of a session with the branch `ours`, which holds what `mode` says.
fn session(user: &User<'_>, namespace: &Namespace<'_>, mode: &str) -> Result<Vec<String>> {
    let branch = json!({
        "type": "pg", "id": "ours", "version": "16", "copy": {"mode": mode}, "connection": {"url": "DATABASE_URL"},
    });
    let file = user.env.home().join(format!("{mode}.json"));
    let feature = json!({"network": false, "db_branches": [branch]});
    std::fs::write(&file, json!({ "feature": feature }).to_string())?;
    let file = file.to_str().context("UTF-8")?;
    let tell = r#"printf '%s\n' "$DATABASE_URL"; exec sleep 600"#;
    let words = ["exec", "-f", file, "-n", namespace.name(), "-t"];
    let program = ["targetless", "--", "sh", "-c", tell];
    let words = [&words[..], &program].concat();
    Ok(words.into_iter().map(str::to_owned).collect())
}

/// One that runs, and the URL that its program has.
fn begin(user: &User<'_>, namespace: &Namespace<'_>) -> Result<(Program, String)> {
    let words = session(user, namespace, "all")?;
    let mut program = user.env.start(user.env.command(words))?;
    program.wait_for(LIMIT, |said, _| said.lines().count() == 1)?;
    let url = program.stdout()?.trim().to_owned();
    Ok((program, url))
}

#[test]
fn two_people_with_one_id_have_one_branch_for_as_long_as_either_holds_it() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let shop = &stage.shop;
    let namespace = shop.namespace();
    let alice = person(&cluster, shop, "alice")?;
    let bob = person(&cluster, shop, "bob")?;

    let (mut hers, url_of_hers) = begin(&alice, namespace)?;
    let (his, url_of_his) = begin(&bob, namespace)?;
    ensure!(his.stderr()?.contains("reused"), "{}", his.stderr()?);
    sql::query_value(
        &url_of_hers,
        "UPDATE products SET stock_quantity = 7 WHERE product_id = '1' RETURNING 1",
    )?;
    ensure!(sql::query_value(&url_of_his, STOCK)? == "7");
    ensure!(count_branches(namespace)? == 1);
    // It stays hers, who asked first; each sees both sessions.
    let requester = "jsonpath={.items[0].spec.requester}";
    let requester = namespace.ask(&["get", "branches.bough.dev", "-o", requester])?;
    ensure!(requester == alice.name, "{requester}");
    for user in [&alice, &bob] {
        let listed = json(&user.env, &["session", "-n", namespace.name(), "ls"])?;
        ensure!(ids(&listed).len() == 2, "{listed}");
    }
    // Another branch of this id there cannot be meanwhile.
    let other = session(&bob, namespace, "schema")?;
    let refused = bob.env.run(other, LIMIT)?.exit_code(4)?;
    ensure!(refused.stdout.is_empty(), "the program ran");
    ensure!(
        refused.stderr.contains("choose another id"),
        "{}",
        refused.stderr
    );

    hers.signal(Signal::TERM)?;
    drop(hers.finish(LIMIT)?);
    ensure!(sql::query_value(&url_of_his, STOCK)? == "7");
    let listed = json(&bob.env, &["session", "-n", namespace.name(), "ls"])?;
    ensure!(ids(&listed).len() == 1, "{listed}");
    drop(his);
    ensure!(shop.product("1")?["stock_quantity"] == 100);
    Ok(())
}
