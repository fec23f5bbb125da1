//! `--format json`: the result of each verb is what its schema in docs/schemas says, and has no key that the schema does not describe.

use anyhow::{Context as _, ensure};
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use harness::modules::{Builder, project, sample};
use harness::registry::Registry;
use harness::settings::{OUT, Settings};
use harness::{Result, caches};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// Every verb with a schema.
const VERBS: [&str; 9] =
    ["build", "build --plan", "cache prune", "cache show", "keys show", "module build", "push", "validate", "verify"];

/// Checks each `NAME.value.json` against `NAME.schema.json`: prints the names of those that do not match, with the reasons.
const VALIDATE: &str = r#"
import glob, json, sys
sys.path.insert(0, "py")
import jsonschema
for path in sorted(glob.glob("*.schema.json")):
    name = path.removesuffix(".schema.json")
    schema, value = (json.load(open(f"{name}.{kind}.json")) for kind in ("schema", "value"))
    jsonschema.Draft202012Validator.check_schema(schema)
    for error in jsonschema.Draft202012Validator(schema).iter_errors(value):
        print(name, error.json_path, error.message)
"#;

/// The validator is `jsonschema` from PyPI.
struct Validator {
    settings: Settings,
    sandbox: Sandbox,
    work: tempfile::TempDir,
}

impl Validator {
    /// Installs it; `None` skips the test.
    fn new() -> Result<Option<Self>> {
        let Some(settings) = Settings::with_program(OUT) else { return Ok(None) };
        let work = tempfile::tempdir()?;
        let sandbox = skip::python("jsonschema==4.26.0", work.path());
        Ok(sandbox.map(|sandbox| Self { settings, sandbox, work }))
    }

    /// Runs a verb on the project with the cache of the build, and returns its checked result.
    fn result(&self, verb: &str, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(self.settings.program()?);
        command.args(verb.split(' ')).args(words).args(["--format", "json"]);
        command.arg("--project").arg(project()).arg("--cache").arg(caches::shared(&self.settings)?);
        self.checked(verb, &command.output()?)
    }

    /// The last line of the output, after checking it against the schema of the verb.
    fn checked(&self, verb: &str, output: &Output) -> Result<Value> {
        ensure!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout.clone())?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
        let (result, events) = lines.split_last().context("nothing was printed")?;
        ensure!(events.iter().all(|event| event["event"] != "result"), "more than one result: {text}");
        self.check(&schema(verb)?, result).with_context(|| format!("{result:#}"))?;
        Ok(result.clone())
    }

    /// Checks that `value` matches the schema and has nothing that is not in it, and that each change of it is found.
    fn check(&self, schema: &Value, value: &Value) -> Result<()> {
        let closed = closed(schema.clone());
        self.write("right", schema, value)?;
        self.write("closed", &closed, value)?;
        let wrong = wrong(value)?;
        for (name, value) in &wrong {
            self.write(name, &closed, value)?;
        }
        let run = Run::new(["python3", "-c", VALIDATE]).write(self.work.path(), "/build/w").directory("/build/w");
        let found = String::from_utf8(self.sandbox.output(&run)?)?;
        let starts = |name: &str| found.lines().any(|line| line.starts_with(&format!("{name} ")));
        ensure!(!starts("right") && !starts("closed"), "{found}");
        let accepted: Vec<_> = wrong.keys().filter(|name| !starts(name)).collect();
        ensure!(accepted.is_empty(), "accepted although it is wrong: {accepted:?}");
        self.remove()
    }

    fn write(&self, name: &str, schema: &Value, value: &Value) -> Result<()> {
        fs::write(self.work.path().join(format!("{name}.schema.json")), schema.to_string())?;
        Ok(fs::write(self.work.path().join(format!("{name}.value.json")), value.to_string())?)
    }

    fn remove(&self) -> Result<()> {
        for entry in fs::read_dir(self.work.path())? {
            let path = entry?.path();
            if path.is_file() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Name of the file with the schema of a verb.
fn file(verb: &str) -> String {
    format!("{}.json", verb.replace(" --", "-").replace(' ', "-"))
}

fn schema(verb: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(project().join("docs/schemas").join(file(verb)))?)?)
}

/// The schema without room for keys that it does not describe.
fn closed(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(members) => {
            members.values_mut().for_each(|member| *member = closed(member.take()));
            if members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = closed(item.take())),
        _ => {}
    }
    schema
}

/// Results that are wrong, by name: without one of the keys, with one more, with another digest, of another event.
fn wrong(value: &Value) -> Result<BTreeMap<String, Value>> {
    let mut wrong = BTreeMap::new();
    let members = value.as_object().context("the result is no object")?;
    for key in members.keys() {
        let mut less = members.clone();
        less.remove(key);
        wrong.insert(format!("without-{key}"), less.into());
    }
    let mut more = members.clone();
    more.insert("unknown".to_owned(), json!(1));
    wrong.insert("more".to_owned(), more.into());
    let text = value.to_string();
    for (name, from, to) in [("digest", "sha256:", "sha512:"), ("event", "\"result\"", "\"note\"")] {
        if text.contains(from) {
            wrong.insert(name.to_owned(), serde_json::from_str(&text.replacen(from, to, 1))?);
        }
    }
    Ok(wrong)
}

#[test]
fn every_schema_is_in_the_documentation() -> Result<()> {
    let page = fs::read_to_string(project().join("docs/schemas/README.md"))?;
    let files = fs::read_dir(project().join("docs/schemas"))?.count();
    ensure!(files == VERBS.len() + 1, "{files} files");
    for verb in VERBS {
        let schema = schema(verb)?;
        ensure!(schema["properties"]["verb"]["const"] == verb, "{schema:#}");
        ensure!(page.contains(&format!("| `{verb}` | [{}](", file(verb))), "{verb} is not documented");
    }
    Ok(())
}

fn keys(validator: &Validator) -> Result<()> {
    let settings = &validator.settings;
    let keys = caches::shared(settings)?.join("keys/development").display().to_string();
    let shown = validator.result("keys show", &["--dir", &keys])?;
    ensure!(shown["keys"].as_array().is_some_and(|keys| keys.len() == 6), "{shown:#}");
    ensure!(shown["keys"][0]["certificate"]["valid_now"] == true && shown["missing"] == json!([]), "{shown:#}");
    let public = tempfile::tempdir()?;
    fs::copy(settings.out.join("image.pub.pem"), public.path().join("image.pub.pem"))?;
    let shown = validator.result("keys show", &["--dir", &public.path().display().to_string()])?;
    ensure!(shown["keys"][0]["private_key"] == "external signer", "{shown:#}");
    ensure!(shown["keys"][0]["certificate"].is_null() && shown["missing"][0] == "module", "{shown:#}");
    Ok(())
}

/// On the cache of the build, in which it removes nothing.
fn cache(validator: &Validator) -> Result<()> {
    let shown = validator.result("cache show", &[])?;
    ensure!(shown["bytes"].as_u64() >= shown["needed_bytes"].as_u64() && shown["needed_bytes"] != 0, "{shown:#}");
    let stages = shown["kinds"].as_array().and_then(|kinds| kinds.iter().find(|kind| kind["kind"] == "stages"));
    ensure!(stages.is_some_and(|stages| stages["needed_items"].as_u64() > Some(10)), "{shown:#}");
    let pruned = validator.result("cache prune", &["--max-size", "0M", "--dry-run"])?;
    let names: Vec<_> =
        pruned["removed"].as_array().context("nothing to remove")?.iter().map(|item| &item["name"]).collect();
    ensure!(
        pruned["dry_run"] == true
            && names.iter().any(|name| name.as_str().is_some_and(|name| name.starts_with("kernel-"))),
        "{pruned:#}"
    );
    ensure!(caches::shared(&validator.settings)?.join("keys/development").exists(), "the keys are gone");
    Ok(())
}

fn images(validator: &Validator) -> Result<()> {
    let settings = &validator.settings;
    let path = |name: &str| settings.out.join(name).display().to_string();
    let record: Value = serde_json::from_slice(&fs::read(settings.out.join("build.json"))?)?;
    let verified = validator.result("verify", &[&path(""), "--key", &path("image.pub.pem")])?;
    ensure!(verified["key"] == format!("sha256:{}", record["image_key"].as_str().unwrap_or_default()), "{verified:#}");
    ensure!(verified["images"].as_array().is_some_and(|images| images.len() == 4), "{verified:#}");
    ensure!(verified["images"][0]["sbom_packages"].as_u64() > Some(50), "{verified:#}");

    let valid = validator.result("validate", &[&path("solana-optimizer.oci")])?;
    ensure!(valid["kernel"] == record["release"], "{valid:#}");
    ensure!(valid["extensions"][0]["name"] == "solana-optimizer", "{valid:#}");
    ensure!(valid["extensions"][0]["modules"].as_array().is_some_and(|modules| modules.len() == 1), "{valid:#}");

    let registry = Registry::start(&settings.sandbox)?;
    let to = format!("{}/acme", registry.address);
    for (tag, count) in [("created", 0), ("unchanged", 2)] {
        let pushed = validator.result("push", &["solana-optimizer", "--out", &path(""), "--registry", &to])?;
        let images = pushed["images"].as_array().context("no images")?;
        ensure!(images.len() == 2 && images.iter().all(|image| image["tag"] == tag), "{pushed:#}");
        ensure!(images.iter().filter(|image| image["previous"].is_string()).count() == count, "{pushed:#}");
        ensure!(pushed["verified_with"] == verified["key"], "{pushed:#}");
    }
    Ok(())
}

fn builds(validator: &Validator) -> Result<()> {
    let settings = &validator.settings;
    let work = tempfile::tempdir()?;
    let out = work.path().join("out").display().to_string();
    for written in [true, false] {
        let built = validator.result("build", &["--base", "testbed", "--development-keys", "--out", &out])?;
        ensure!(built["written"] == written && built["testbed"] == true, "{built:#}");
        ensure!(built["config"].is_null() && built["test_build"] == true, "{built:#}");
        ensure!(built["keys"]["origin"] == "development" && built["keys"]["development"] == true, "{built:#}");
        let record: Value = serde_json::from_slice(&fs::read(Path::new(&out).join("build.json"))?)?;
        for image in built["images"].as_array().context("no images")? {
            let digest = record["images"][image["name"].as_str().unwrap_or_default()].as_str().unwrap_or_default();
            ensure!(image["digest"] == format!("sha256:{digest}"), "{built:#}");
        }
    }
    plans(validator, &out)?;
    let builder = Builder::new(settings, "json")?;
    let manifest = sample("c").join("manifest.yaml");
    let words: [&OsStr; 4] = ["--format".as_ref(), "json".as_ref(), "--extension".as_ref(), manifest.as_ref()];
    let built = validator.checked("module build", &builder.run(&sample("c"), &words)?)?;
    ensure!(built["modules"][0]["name"] == "sample_c.ko" && built["keys"]["origin"] == "option", "{built:#}");
    ensure!(built["extension"]["name"] == "ghcr.io/our-org/sample-c:0.1.0", "{built:#}");
    Ok(())
}

/// After the build in `out`, nothing would run again; with another tag, the images would.
fn plans(validator: &Validator, out: &str) -> Result<()> {
    let words = ["--base", "testbed", "--development-keys", "--out", out];
    let plan = validator.result("build --plan", &words)?;
    let states = |plan: &Value, state: &str| -> Vec<String> {
        let stages = plan["stages"].as_array().cloned().unwrap_or_default();
        let stages = stages.into_iter().filter(|stage| stage["state"] == state);
        stages.map(|stage| stage["stage"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let cached = states(&plan, "cached").len();
    ensure!(cached > 12 && plan["stages"].as_array().is_some_and(|stages| stages.len() == cached), "{plan:#}");
    ensure!(plan["seconds"] == 0 && plan["fetch"] == 0 && plan["unknown"] == json!([]), "{plan:#}");
    let record: Value = serde_json::from_slice(&fs::read(Path::new(out).join("build.json"))?)?;
    let mut names: Vec<&str> = plan["images"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    names.sort_unstable();
    ensure!(names == record["images"].as_object().context("no images")?.keys().collect::<Vec<_>>(), "{plan:#}");
    let tagged = validator.result("build --plan", &[&words[..], &["--tag", "never-built"]].concat())?;
    let images = ["kernel-image", "extension-image", "kernel-devel-image", "installer-image"];
    ensure!(states(&tagged, "run") == images && states(&tagged, "unknown") == ["attested-images"], "{tagged:#}");
    ensure!(states(&tagged, "cached").len() == cached - images.len() - 1, "{tagged:#}");
    Ok(())
}

#[test]
fn each_result_matches_its_schema() -> Result<()> {
    let Some(validator) = Validator::new()? else { return Ok(()) };
    keys(&validator)?;
    cache(&validator)?;
    images(&validator)?;
    builds(&validator)
}
