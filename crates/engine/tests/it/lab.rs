//! A corner of the real engine for one test: all that is made there carries one label and goes away with the test.

use std::time::{Duration, Instant};

use engine::{Address, Docker, Engine, Labels, WantedContainer};

pub(crate) const BASE_IMAGE: &str = "debian:bookworm-slim";
const LABEL: &str = "dev.longshore.test";

pub(crate) struct Lab {
    pub(crate) docker: Docker,
    pub(crate) name: String,
    pub(crate) labels: Labels,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let address = Address::from_environment().expect("DOCKER_HOST makes sense");
        let docker = Docker::connect(address).await.expect("these tests need a Docker engine");
        let image = docker.image_inspect(BASE_IMAGE).await.unwrap();
        assert!(
            image.is_some(),
            "the engine needs the image {BASE_IMAGE}: pull it, or import a Debian root under that name"
        );
        let id = uuid::Uuid::now_v7().simple().to_string();
        let name = format!("lst-{}", &id[16..]);
        Self { docker, labels: Labels::from([(LABEL.to_owned(), name.clone())]), name }
    }

    /// A container that runs this in a shell.
    pub(crate) fn shell(&self, name: &str, network: &str, script: &str) -> WantedContainer {
        let mut wanted = WantedContainer::new(format!("{}-{name}", self.name), BASE_IMAGE, network);
        wanted.labels = self.labels.clone();
        wanted.command = Some(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]);
        wanted.restart = engine::wanted::WantedRestart::No;
        wanted.init = Some(true);
        wanted
    }

    /// Another network of this name, whether there is one or not; its id.
    pub(crate) async fn network_twin(&self, name: &str) -> String {
        let request = bollard::models::NetworkCreateRequest {
            name: name.to_owned(),
            internal: Some(true),
            labels: Some(self.labels.clone().into_iter().collect()),
            ..Default::default()
        };
        let client = bollard::Docker::connect_with_defaults().unwrap();
        client.create_network(request).await.unwrap().id
    }

    /// Ids of the networks of this name, as the engine has them.
    pub(crate) async fn networks_of(&self, name: &str) -> Vec<String> {
        let all = self.docker.network_list(&Labels::new()).await.unwrap();
        all.into_iter().filter(|network| network.name == name).map(|network| network.id).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let (docker, labels) = (self.docker.clone(), self.labels.clone());
        // The test's own runtime is on its way out, perhaps in a panic.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // A client's connections belong to the runtime that made them.
                let docker = Docker::connect(docker.address().clone()).await.unwrap();
                for container in docker.container_list(&labels).await.unwrap_or_default() {
                    let _ = docker.container_remove(&container.id).await;
                }
                for network in docker.network_list(&labels).await.unwrap_or_default() {
                    let _ = docker.network_remove(&network.id).await;
                }
                for volume in docker.volume_list(&labels).await.unwrap_or_default() {
                    let _ = docker.volume_remove(&volume.name).await;
                }
                for image in docker.image_list(&labels).await.unwrap_or_default() {
                    for reference in image.tags.iter().chain(&image.digests).chain([&image.id]) {
                        let _ = docker.image_remove(reference).await;
                    }
                }
            });
        });
        let _ = cleaning.join();
    }
}

/// Waits until the condition holds; fails the test when it takes longer than half a minute.
pub(crate) async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
