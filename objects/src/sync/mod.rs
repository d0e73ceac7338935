//! Types that people wait on: locks, semaphores, conditions, barriers, events and queues.
