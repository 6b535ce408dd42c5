mod world;
use std::time::{Duration, Instant};
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::var("PODIUM_KUBECONFIG")?;
    let kubeconfig = kube::config::Kubeconfig::read_from(&path)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    config.default_retry = false;
    let client = kube::Client::try_from(config)?;
    let n: usize = std::env::var("N")?.parse()?;
    let ns: usize = std::env::var("NS")?.parse()?;
    let layout =
        world::Layout { prefix: std::env::var("PREFIX").unwrap_or("w".into()).leak(), namespaces: ns, each: n / ns };
    println!("pods: {:?}", layout.create_pods(&client).await?);
    println!("elections: {:?}", layout.create_elections(&client).await?);
    let _ = (Instant::now(), Duration::ZERO);
    Ok(())
}
