use super::*;
use std::path::Path;

use async_trait::async_trait;
use containerd_shim_protos::api::Empty;
use containerd_shim_protos::events::task::TaskOOM;
use containerd_shim_protos::shim_async::{Events, create_events};
use tokio::sync::mpsc;
use ttrpc::r#async::{Server, TtrpcContext};

struct Containerd(mpsc::UnboundedSender<(String, String)>);

#[async_trait]
impl Events for Containerd {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap();
        assert_eq!((envelope.namespace.as_str(), envelope.topic.as_str()), ("n", "/tasks/oom"));
        let any = envelope.event.unwrap();
        let oom = TaskOOM::parse_from_bytes(&any.value).unwrap();
        self.0.send((any.type_url, oom.container_id)).unwrap();
        Ok(Empty::new())
    }
}

async fn containerd(socket: &Path) -> (Server, mpsc::UnboundedReceiver<(String, String)>) {
    let (heard, hears) = mpsc::unbounded_channel();
    let mut server = Server::new().bind(&format!("unix://{}", socket.display())).unwrap();
    server = server.register_service(create_events(std::sync::Arc::new(Containerd(heard))));
    server.start().await.unwrap();
    (server, hears)
}

fn publish(publisher: &Publisher, id: impl ToString) {
    let event = TaskOOM { container_id: id.to_string(), ..TaskOOM::default() };
    publisher.publish("/tasks/oom", "TaskOOM", &event);
}

#[tokio::test]
async fn events_arrive_in_order_before_and_after_containerd_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("c.ttrpc");
    let publisher = Publisher::new(Some(socket.display().to_string()), "n");
    publish(&publisher, 0);
    let (mut server, mut hears) = containerd(&socket).await;
    publish(&publisher, 1);
    for id in ["0", "1"] {
        let expected = ("containerd.events.TaskOOM".to_owned(), id.to_owned());
        assert_eq!(hears.recv().await, Some(expected));
    }
    server.shutdown().await.unwrap();
    let _ = std::fs::remove_file(&socket);
    publish(&publisher, 2);
    publish(&publisher, 3);
    let (_server, mut hears) = containerd(&socket).await;
    publisher.nudge();
    publish(&publisher, 4);
    for id in ["2", "3", "4"] {
        assert_eq!(hears.recv().await.unwrap().1, id);
    }
    publisher.flush(Duration::from_secs(5)).await;
    assert!(publisher.queue().waiting.is_empty());
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let publisher = Publisher::new(None, "n");
    for id in 0..MAX_WAITING + 10 {
        publish(&publisher, id);
    }
    let queue = publisher.queue();
    assert_eq!((queue.waiting.len(), queue.lost), (MAX_WAITING, 10));
}
