//! Not committed: ns of CPU per record.
use bytes::Bytes;
use headwater_client::Producer;
use headwater_core::{Log, Record, Timestamp, TopicSpec, memory::MemoryLog};
use headwater_storage::log::{Durability, EmbeddedLog, LogOptions};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    let f: Vec<&str> = rest.split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let kind = args.get(1).map_or("embedded", |s| s.as_str());
    let records: usize = args.get(2).map_or(5_000_000, |s| s.parse().unwrap());
    let batch: usize = args.get(3).map_or(128 << 10, |s| s.parse().unwrap());
    let linger: u64 = args.get(4).map_or(1, |s| s.parse().unwrap());
    let partitions: u32 = args.get(5).map_or(4, |s| s.parse().unwrap());
    let folder = tempfile::tempdir_in(args.get(6).map_or("/tmp", |s| s.as_str())).unwrap();
    let log: Arc<dyn Log> = if kind == "memory" {
        Arc::new(MemoryLog::default())
    } else {
        let options = LogOptions { durability: Durability::Os, ..LogOptions::default() };
        Arc::new(EmbeddedLog::open_with(folder.path(), options).unwrap())
    };
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    rt.block_on(async {
        log.create_topic(&TopicSpec::new("t", partitions).unwrap()).await.unwrap();
        let producer = Producer::<Bytes, Bytes>::builder(log)
            .batch_bytes(batch)
            .linger(Duration::from_millis(linger))
            .build()
            .await
            .unwrap();
        let keys: Vec<Bytes> = (0..1000).map(|i| Bytes::from(format!("sensor-{i:08}"))).collect();
        let value = Bytes::from(vec![b'x'; 84]);
        for round in 0..4 {
            let (c, t) = (cpu(), Instant::now());
            let mut last = None;
            for i in 0..records {
                let record = Record::new(
                    keys[i % 1000].clone(),
                    value.clone(),
                    Timestamp(1_700_000_000_000 + i as i64 / 1000),
                );
                last = Some(producer.send("t", &record).await.unwrap());
            }
            producer.flush().await.unwrap();
            last.unwrap().await.unwrap();
            let (c, t) = (cpu() - c, t.elapsed().as_secs_f64());
            println!(
                "round {round}: {:.0} ns CPU/record, {:.2} M records/s wall, {:.2} M records/s/core",
                c * 1e9 / records as f64,
                records as f64 / t / 1e6,
                records as f64 / c / 1e6
            );
        }
    });
}
