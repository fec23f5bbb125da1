//! Processes a list with a bounded number of threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Result;

/// Runs `work` on every item, at most `threads` at a time. Starts nothing after a failure, and returns the first one.
pub(crate) fn for_each<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let failed = || failure.lock().map_or(true, |failure| failure.is_some());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !failed()
                    && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if let Err(e) = work(item)
                        && let Ok(mut failure) = failure.lock()
                    {
                        failure.get_or_insert(e);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use common::{Class, Error};

    use super::*;

    #[test]
    fn runs_every_item_once_within_the_thread_limit() {
        let items: Vec<usize> = (0..100).collect();
        let (done, now, most) = (Mutex::new(Vec::new()), AtomicUsize::new(0), AtomicUsize::new(0));
        for_each(&items, 3, |item| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            done.lock().unwrap().push(*item);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, items);
        assert!(most.into_inner() <= 3);
        for_each(&[] as &[u8], 3, |_| Ok(())).unwrap();
    }

    #[test]
    fn stops_at_a_failure() {
        let done = AtomicUsize::new(0);
        let error = for_each(&[1, 2, 3, 4], 1, |item| {
            done.fetch_add(1, Ordering::SeqCst);
            if *item == 2 { Err(Error::new(Class::BadInput, "two")) } else { Ok(()) }
        });
        assert_eq!((error.unwrap_err().to_string().as_str(), done.into_inner()), ("two", 2));
    }
}
