//! What containers get of the plan's volumes, and when.

use super::*;

fn plan(mounts: serde_json::Value) -> ContainerPlan {
    serde_json::from_value(serde_json::json!({
        "name": "main", "image": {"reference": "x", "digest": "sha256:0"}, "args": ["x"], "cwd": "/",
        "no_new_privileges": true, "seccomp": "runtime-default", "logs": true, "restart": "never",
        "stop_signal": 15, "mounts": mounts
    }))
    .unwrap()
}

fn files(name: &str) -> VolumePlan {
    VolumePlan { name: name.into(), source: VolumeSource::Files { digests: None } }
}

async fn nowhere() -> Result<Place, Failure> {
    Err(Failure::new(Code::Internal, "nobody asked for space"))
}

struct Nobody;

#[async_trait]
impl Keys for Nobody {
    async fn key(&self, uri: &str) -> Result<Secret, Failure> {
        Err(Failure::new(Code::FetchFailed, uri))
    }
}

fn put(volumes: &Volumes, generation: u64, text: &[u8]) {
    let me = rustix::process::getuid().as_raw();
    let piece = Piece { path: "key", mode: 0o644, uid: me, gid: me, offset: 0, data: text };
    volumes.put("config", generation, &[piece], true).unwrap();
}

#[tokio::test]
async fn a_container_waits_for_its_files_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path().into(), &[files("config"), files("other")]);
    let plan = plan(serde_json::json!([
        {"kind": "volume", "target": "/etc/app", "volume": "config", "read_only": true}
    ]));
    let volumes = volumes.patient(Duration::from_millis(50));
    let failure = volumes.prepare("id", &plan, nowhere(), &Nobody).await.unwrap_err();
    let volumes = volumes.patient(PATIENCE);
    assert_eq!((failure.code, failure.stage), (Code::PlanFilesMissing, Stage::Start));
    let volumes = Arc::new(volumes);
    let (waiting, ready) = (Arc::clone(&volumes), tokio::sync::oneshot::channel());
    let (told, heard) = ready;
    let prepared = tokio::spawn(async move {
        told.send(()).unwrap();
        waiting.prepare("id", &plan, nowhere(), &Nobody).await
    });
    heard.await.unwrap();
    put(&volumes, 1, b"one");
    let mounts = prepared.await.unwrap().unwrap();
    assert_eq!(mounts.volumes.len(), 1);
    assert_eq!(fs::read(mounts.volumes[0].source.join("key")).unwrap(), b"one");
    put(&volumes, 2, b"two");
    assert_eq!(fs::read(mounts.volumes[0].source.join("key")).unwrap(), b"two", "updates are seen");
}

#[tokio::test]
async fn what_a_container_may_write_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path().into(), &[files("config")]);
    put(&volumes, 1, b"one");
    let plan = plan(serde_json::json!([{"kind": "volume", "target": "/a", "volume": "config"}]));
    let first = volumes.prepare("id", &plan, nowhere(), &Nobody).await.unwrap().volumes[0].source.clone();
    fs::write(first.join("key"), "changed").unwrap();
    assert_eq!(fs::read(volumes.files.root("config").join("key")).unwrap(), b"one");
    // Once more, as after a restart: fresh, and nothing of the old one is left.
    let again = volumes.prepare("id", &plan, nowhere(), &Nobody).await.unwrap().volumes[0].source.clone();
    assert_eq!(fs::read(again.join("key")).unwrap(), b"one");
    volumes.release("id");
    assert!(!again.exists());
}

#[tokio::test]
async fn scratch_lies_where_the_plan_puts_its_space() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = VolumePlan { name: "tmp".into(), source: VolumeSource::Scratch { size: 0, gid: None } };
    let volumes = Volumes::new(dir.path().join("volumes"), &[scratch]);
    let plan = plan(serde_json::json!([
        {"kind": "volume", "target": "/a", "volume": "tmp"},
        {"kind": "volume", "target": "/b", "volume": "tmp", "sub_path": "x/y"}
    ]));
    let place = || async { Ok(Place { folder: dir.path().join("space"), memory: false }) };
    let mounts = volumes.prepare("id", &plan, place(), &Nobody).await.unwrap();
    assert!(mounts.volumes.iter().all(|v| v.source == dir.path().join("space/volumes/tmp") && v.make));
    let mode = fs::metadata(&mounts.volumes[0].source).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o777, "anybody's, as kubelet makes it");
    assert_eq!(mounts.volumes[1].beneath, "x/y");
    let failure = volumes.prepare("id", &plan, nowhere(), &Nobody).await.unwrap_err();
    assert_eq!(failure.code, Code::Internal, "what keeps space from being there is the answer");
}

#[test]
fn a_name_stands_for_one_kind() {
    let volumes = Volumes::new("/nowhere".into(), &[]);
    volumes.add(&[files("a")]).unwrap();
    volumes.add(&[files("a")]).unwrap();
    let other = VolumePlan { name: "a".into(), source: VolumeSource::Memory { size: 1, gid: None } };
    assert_eq!(volumes.add(&[other]).unwrap_err().code, Code::PlanRequestRefused);
    let many: Vec<_> = (0..300).map(|i| files(&format!("v{i}"))).collect();
    assert_eq!(volumes.add(&many).unwrap_err().code, Code::PlanRequestRefused);
}
