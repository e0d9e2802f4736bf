//! Batches that are made on another thread while the step before is computed.

use std::{
    panic::resume_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{Builder, Scope, ScopedJoinHandle},
};

use data::Batch;

use crate::{Batches, StepBatches, TrainError};

/// Batches of any origin. Once a step was asked for, the one after it is made ahead, and no more than that. Its error, if
/// it has one, comes when it is asked for itself.
pub(crate) struct Ahead<'scope, 'env, 'run> {
    scope: &'scope Scope<'scope, 'env>,
    batches: &'env Mutex<&'run mut dyn Batches>,
    total_steps: u64,
    eval_len: usize,
    next: Option<Next<'scope>>,
}

/// A step that is being made, or is ready.
struct Next<'scope> {
    step: u64,
    batches: ScopedJoinHandle<'scope, Result<StepBatches, TrainError>>,
}

impl<'scope, 'env, 'run> Ahead<'scope, 'env, 'run> {
    /// Nothing is made before the first step is asked for. A step under way is finished before the scope ends.
    pub fn new(scope: &'scope Scope<'scope, 'env>, batches: &'env Mutex<&'run mut dyn Batches>) -> Self {
        let (total_steps, eval_len) = {
            let batches = lock(batches);
            (batches.total_steps(), batches.eval_len())
        };
        Self { scope, batches, total_steps, eval_len, next: None }
    }

    fn start(&mut self, step: u64) {
        let batches = self.batches;
        let thread = Builder::new().name("batches".into());
        // Where the system refuses a thread, the step is made when it is asked for.
        let made = thread.spawn_scoped(self.scope, move || lock(batches).step(step));
        self.next = made.ok().map(|batches| Next { step, batches });
    }
}

impl Batches for Ahead<'_, '_, '_> {
    fn total_steps(&self) -> u64 {
        self.total_steps
    }

    fn step(&mut self, step: u64) -> Result<StepBatches, TrainError> {
        let made = match self.next.take() {
            Some(next) if next.step == step => {
                next.batches.join().unwrap_or_else(|panic| resume_unwind(panic))
            }
            _ => lock(self.batches).step(step),
        };
        if made.is_ok() && step + 1 < self.total_steps {
            self.start(step + 1);
        }
        made
    }

    fn eval_len(&self) -> usize {
        self.eval_len
    }

    fn eval(&mut self, index: usize) -> Result<Batch, TrainError> {
        lock(self.batches).eval(index)
    }
}

/// A thread that panicked left nothing half done that anybody goes on with: its panic is passed on.
fn lock<'a, 'run>(batches: &'a Mutex<&'run mut dyn Batches>) -> MutexGuard<'a, &'run mut dyn Batches> {
    batches.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
            mpsc::{Receiver, Sender, channel},
        },
        thread::{self, ThreadId},
    };

    use super::*;
    use crate::Cursor;

    /// Steps that tell where and when they are made.
    struct Told {
        steps: u64,
        made: Sender<(u64, ThreadId)>,
        fails_at: Option<u64>,
        panics_at: Option<u64>,
    }

    impl Batches for Told {
        fn total_steps(&self) -> u64 {
            self.steps
        }

        fn step(&mut self, step: u64) -> Result<StepBatches, TrainError> {
            self.made.send((step, thread::current().id())).unwrap();
            assert_ne!(self.panics_at, Some(step), "as asked");
            if self.fails_at == Some(step) {
                return Err(TrainError::NothingToTrain { step });
            }
            let end = Cursor { epoch: 0, micro_batch: step + 1 };
            Ok(StepBatches { batches: vec![batch(step as u32)], end, epoch: step as f64 })
        }

        fn eval_len(&self) -> usize {
            2
        }

        fn eval(&mut self, index: usize) -> Result<Batch, TrainError> {
            Ok(batch(100 + index as u32))
        }
    }

    fn batch(id: u32) -> Batch {
        let mut batch = Batch::default();
        batch.push(&[id, id], &[false, true]);
        batch
    }

    fn told(steps: u64) -> (Told, Receiver<(u64, ThreadId)>) {
        let (made, seen) = channel();
        (Told { steps, made, fails_at: None, panics_at: None }, seen)
    }

    fn with<R>(batches: &mut dyn Batches, f: impl FnOnce(&mut Ahead) -> R) -> R {
        let batches = Mutex::new(batches);
        thread::scope(|scope| f(&mut Ahead::new(scope, &batches)))
    }

    #[test]
    fn steps_and_evaluations_are_what_they_were_and_made_elsewhere() {
        let (mut batches, seen) = told(6);
        let want: Vec<StepBatches> = (0..6).map(|step| batches.step(step).unwrap()).collect();
        let _ = seen.try_iter().count();
        let got = with(&mut batches, |ahead| {
            assert_eq!((ahead.total_steps(), ahead.eval_len()), (6, 2));
            let mut got = Vec::new();
            for step in 0..6 {
                got.push(ahead.step(step).unwrap());
                assert_eq!(ahead.eval(step as usize % 2).unwrap(), batch(100 + step as u32 % 2));
            }
            got
        });
        assert_eq!(got, want, "the same steps in the same order");
        let made: Vec<(u64, bool)> =
            seen.try_iter().map(|(step, by)| (step, by == thread::current().id())).collect();
        let want: Vec<(u64, bool)> = (0..6).map(|step| (step, step == 0)).collect();
        assert_eq!(made, want, "each is made once, and all but the first on another thread");
    }

    #[test]
    fn the_next_step_is_made_before_it_is_asked_for_and_no_more_than_that() {
        let (mut batches, seen) = told(6);
        with(&mut batches, |ahead| {
            ahead.step(3).unwrap();
            assert_eq!((seen.recv().unwrap().0, seen.recv().unwrap().0), (3, 4), "without a further word");
            let next = ahead.next.take().unwrap();
            next.batches.join().unwrap().unwrap();
            assert!(seen.try_recv().is_err(), "the one after that is not");
        });
    }

    #[test]
    fn a_step_out_of_turn_is_made_all_the_same() {
        let (mut batches, _seen) = told(6);
        with(&mut batches, |ahead| {
            for step in [5, 2, 2, 0, 1] {
                assert_eq!(ahead.step(step).unwrap().epoch, step as f64);
            }
        });
    }

    #[test]
    fn an_error_comes_with_its_own_step() {
        let (mut batches, _seen) = told(6);
        batches.fails_at = Some(2);
        with(&mut batches, |ahead| {
            assert!(ahead.step(0).is_ok() && ahead.step(1).is_ok(), "the steps before it are good");
            assert!(ahead.eval(0).is_ok(), "and an evaluation between");
            assert!(matches!(ahead.step(2), Err(TrainError::NothingToTrain { step: 2 })));
        });
    }

    #[test]
    fn whoever_leaves_early_leaves_no_thread() {
        /// Counts how many are alive.
        struct Counted(Arc<AtomicU64>);
        impl Batches for Counted {
            fn total_steps(&self) -> u64 {
                9
            }
            fn step(&mut self, _: u64) -> Result<StepBatches, TrainError> {
                self.0.fetch_add(1, Ordering::SeqCst);
                Ok(StepBatches::default())
            }
            fn eval_len(&self) -> usize {
                0
            }
            fn eval(&mut self, _: usize) -> Result<Batch, TrainError> {
                Err(TrainError::NoRows)
            }
        }
        let made = Arc::new(AtomicU64::new(0));
        with(&mut Counted(made.clone()), |ahead| ahead.step(0).unwrap());
        assert_eq!(made.load(Ordering::SeqCst), 2, "the step under way is finished, and none begun after it");
        assert_eq!(Arc::strong_count(&made), 1);
    }

    #[test]
    fn a_panic_is_passed_on() {
        let (mut batches, _seen) = told(6);
        batches.panics_at = Some(1);
        let result = catch_unwind(AssertUnwindSafe(|| {
            with(&mut batches, |ahead| {
                ahead.step(0).unwrap();
                ahead.step(1).is_ok()
            })
        }));
        assert!(result.is_err(), "not a run that ends as if nothing had happened");
    }
}
