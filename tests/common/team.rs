//! Teams whose processes are threads of the test.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use cifar_engine::error::{Error, Result};
use cifar_engine::team::{Link, Team};

/// A link to other threads: for each, a way there and a way back.
struct Threads {
    rank: usize,
    to: Vec<Mutex<Sender<Vec<u8>>>>,
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
}

impl Threads {
    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        let sent = self.to[to].lock().unwrap().send(bytes.to_vec());
        sent.map_err(|_| Error::Failed(format!("process {to} is gone")))
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        let received = self.from[from].lock().unwrap().recv();
        received.map_err(|_| Error::Failed(format!("process {from} is gone")))
    }
}

impl Link for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn host(&self) -> String {
        format!("host{}", self.rank)
    }

    fn swap(&self, partner: usize, sent: &[f32], received: &mut [f32]) -> Result<()> {
        self.send(partner, bytemuck::cast_slice(sent))?;
        bytemuck::cast_slice_mut(received).copy_from_slice(&self.receive(partner)?);
        Ok(())
    }

    fn gather(&self, part: &[u8]) -> Result<Vec<Vec<u8>>> {
        (0..self.size()).try_for_each(|to| self.send(to, part))?;
        (0..self.size()).map(|from| self.receive(from)).collect()
    }

    fn all(&self, yes: bool) -> Result<bool> {
        Ok(self.gather(&[u8::from(yes)])?.iter().all(|answer| answer == &[1]))
    }

    fn abort(&self, code: i32) -> ! {
        panic!("process {} ended all with {code}", self.rank)
    }
}

/// What each of `size` processes that work together makes, by rank.
pub fn together<T: Send>(size: usize, work: impl Fn(&Team) -> T + Sync) -> Vec<T> {
    let mut links: Vec<Threads> =
        (0..size).map(|rank| Threads { rank, to: Vec::new(), from: Vec::new() }).collect();
    for from in 0..size {
        for to in 0..size {
            let (sender, receiver) = channel();
            links[from].to.push(Mutex::new(sender));
            links[to].from.push(Mutex::new(receiver));
        }
    }
    std::thread::scope(|scope| {
        let work = &work;
        let start = |link| scope.spawn(move || work(&Team::new(link)));
        let threads: Vec<_> = links.into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
