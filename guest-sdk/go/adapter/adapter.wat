;; Stands in for wasi_snapshot_preview1 and grants nothing: Go's runtime asks a system for the time, randomness and a place to
;; write, and gets those of the host's step.
;;
;; * The wall clock stands at the step's time. The monotonic one goes on from there by a microsecond with each look, and past a sleep
;;   at once, so that nothing waits for it in vain; it never goes back.
;; * Random bytes follow from the step's seed, and from a fixed one before the first step.
;; * What is written to standard output and error goes to the host's log by the line.
;; * All else is refused, and nothing traps but the end of the process.
;;
;; It stands between the host and the guest as well. The world's functions are the guest's own, exported once more: the host
;; finds what a module imports sooner than what it defines. Memory for their arguments comes from here, out of what the guest
;; lends, since each way into Go is a long one; the guest is only asked for more than that.
;;
;; The module has no memory of its own: it works in the guest's, where the guest lends it room.
(module
  (import "steward:plugin/host@0.1.0" "log" (func $log (param $level i32) (param $text i32) (param $length i32)))
  (import "env" "memory" (memory 0))

  (import "__main_module__" "steward_allocate" (func $allocate (param $length i32) (result i32)))
  (import "__main_module__" "steward:plugin/referent@0.1.0#describe" (func $describe (result i32)))
  (import "__main_module__" "steward:plugin/referent@0.1.0#[static]object.create"
    (func $create (param i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "__main_module__" "steward:plugin/referent@0.1.0#[static]object.load"
    (func $load (param i32 i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "__main_module__" "steward:plugin/referent@0.1.0#[method]object.step"
    (func $step (param i32 i64 i64 i32 i64 i32 i64 i64 i32 i32 i32 i32 i32) (result i32)))
  (import "__main_module__" "steward:plugin/referent@0.1.0#[method]object.save"
    (func $save (param i32) (result i32)))
  (import "__main_module__" "steward:plugin/referent@0.1.0#[dtor]object" (func $drop (param i32)))
  (export "steward:plugin/referent@0.1.0#describe" (func $describe))
  (export "steward:plugin/referent@0.1.0#[static]object.create" (func $create))
  (export "steward:plugin/referent@0.1.0#[static]object.load" (func $load))
  (export "steward:plugin/referent@0.1.0#[method]object.step" (func $step))
  (export "steward:plugin/referent@0.1.0#[method]object.save" (func $save))
  (export "steward:plugin/referent@0.1.0#[dtor]object" (func $drop))

  (global $wall_ns (mut i64) (i64.const 0))
  (global $monotonic_ns (mut i64) (i64.const 1))
  (global $random (mut i64) (i64.const 0x5deece66d))

  ;; What the guest lends; nothing until it has.
  ;;
  ;; The turn is a record of it, which it fills when a step begins:
  ;;    0  now_ms: i64
  ;;    8  seed: i64
  ;;   16  is_new: i32, until somebody has asked for the time or for randomness
  ;;   20  taken: i32, bytes of the room for arguments that are in use
  ;;   24  line_length: i32, bytes of the room for a line that are in use
  (global $turn (mut i32) (i32.const 0))
  (global $room (mut i32) (i32.const 0))
  (global $room_max (mut i32) (i32.const 0))
  (global $line (mut i32) (i32.const 0))
  (global $line_max (mut i32) (i32.const 0))
  (global $line_level (mut i32) (i32.const 0))

  ;; Refusals of WASI.
  (global $BADF i32 (i32.const 8))
  (global $NOSYS i32 (i32.const 52))
  (global $SPIPE i32 (i32.const 70))

  ;; ---- For the SDK

  ;; Lends the record of the turn, and room for arguments, both aligned to eight bytes, and room for a line.
  (func (export "steward_lend") (param $turn i32) (param $room i32) (param $room_max i32) (param $line i32) (param $line_max i32)
    (global.set $turn (local.get $turn))
    (global.set $room (local.get $room))
    (global.set $room_max (local.get $room_max))
    (global.set $line (local.get $line))
    (global.set $line_max (local.get $line_max)))

  ;; Hands on what has had no end of line.
  (func $flush (export "steward_flush")
    (local $length i32)
    (if (i32.eqz (global.get $turn)) (then (return)))
    (local.set $length (i32.load offset=24 (global.get $turn)))
    (i32.store offset=24 (global.get $turn) (i32.const 0))
    (if (local.get $length)
      (then (call $log (global.get $line_level) (global.get $line) (local.get $length)))))

  ;; Takes over the time and seed of the step, if nobody has asked for either in it. Most steps do not.
  (func $begin
    (if (i32.eqz (global.get $turn)) (then (return)))
    (if (i32.eqz (i32.load offset=16 (global.get $turn))) (then (return)))
    (i32.store offset=16 (global.get $turn) (i32.const 0))
    (global.set $wall_ns (i64.mul (i64.load (global.get $turn)) (i64.const 1000000)))
    (global.set $random (i64.load offset=8 (global.get $turn)))
    (if (i64.gt_u (global.get $wall_ns) (global.get $monotonic_ns))
      (then (global.set $monotonic_ns (global.get $wall_ns)))))

  ;; ---- Memory for arguments

  ;; Memory lent for arguments, or else the guest's own, aligned to eight bytes whatever is asked for. It is never given back: the
  ;; guest sets back what is taken, and has a collector.
  (func (export "cabi_realloc")
    (param $old i32) (param $old_length i32) (param $align i32) (param $length i32) (result i32)
    (local $taken i32)
    (local $at i32)
    (block $found
      (if (global.get $turn)
        (then
          (local.set $taken (i32.load offset=20 (global.get $turn)))
          (if (i32.le_u (local.get $length) (i32.sub (global.get $room_max) (local.get $taken)))
            (then
              (local.set $at (i32.add (global.get $room) (local.get $taken)))
              (i32.store offset=20 (global.get $turn)
                (i32.and (i32.add (i32.add (local.get $taken) (local.get $length)) (i32.const 7)) (i32.const -8)))
              (br $found)))))
      (local.set $at (call $allocate (local.get $length))))
    (if (local.get $old_length)
      (then
        (memory.copy (local.get $at) (local.get $old)
          (select (local.get $old_length) (local.get $length)
            (i32.lt_u (local.get $old_length) (local.get $length))))))
    (local.get $at))

  ;; ---- Time

  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $out i32) (result i32)
    (call $begin)
    (if (i32.eqz (local.get $clock))
      (then (i64.store (local.get $out) (global.get $wall_ns)))
      (else
        (global.set $monotonic_ns (i64.add (global.get $monotonic_ns) (i64.const 1000)))
        (i64.store (local.get $out) (global.get $monotonic_ns))))
    (i32.const 0))

  (func (export "clock_res_get") (param $clock i32) (param $out i32) (result i32)
    (i64.store (local.get $out) (i64.const 1000))
    (i32.const 0))

  ;; Says of every subscription that it has come about: sleeping makes it later, and there is nothing else to wait for.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $count i32) (param $events i32) (result i32)
    (local $at i32)
    (call $begin)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $count)))
        ;; A clock's subscription: timeout at 24, whether it is a time of the clock at 40.
        (if (i32.eqz (i32.load8_u offset=8 (local.get $in)))
          (then
            (if (i32.and (i32.load16_u offset=40 (local.get $in)) (i32.const 1))
              (then
                (if (i64.gt_u (i64.load offset=24 (local.get $in)) (global.get $monotonic_ns))
                  (then (global.set $monotonic_ns (i64.load offset=24 (local.get $in))))))
              (else
                (global.set $monotonic_ns
                  (i64.add (global.get $monotonic_ns) (i64.load offset=24 (local.get $in))))))))
        ;; The event: the subscription's own number, no error, its kind.
        (i64.store (local.get $out) (i64.load (local.get $in)))
        (i64.store offset=8 (local.get $out) (i64.shl (i64.load8_u offset=8 (local.get $in)) (i64.const 16)))
        (i64.store offset=16 (local.get $out) (i64.const 0))
        (i64.store offset=24 (local.get $out) (i64.const 0))
        (local.set $in (i32.add (local.get $in) (i32.const 48)))
        (local.set $out (i32.add (local.get $out) (i32.const 32)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $events) (local.get $count))
    (i32.const 0))

  (func (export "sched_yield") (result i32) (i32.const 0))

  ;; ---- Randomness: SplitMix64

  (func (export "random_get") (param $out i32) (param $length i32) (result i32)
    (local $mixed i64)
    (local $left i32)
    (call $begin)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $length)))
        (if (i32.eqz (local.get $left))
          (then
            (global.set $random (i64.add (global.get $random) (i64.const 0x9e3779b97f4a7c15)))
            (local.set $mixed (global.get $random))
            (local.set $mixed
              (i64.mul (i64.xor (local.get $mixed) (i64.shr_u (local.get $mixed) (i64.const 30)))
                (i64.const 0xbf58476d1ce4e5b9)))
            (local.set $mixed
              (i64.mul (i64.xor (local.get $mixed) (i64.shr_u (local.get $mixed) (i64.const 27)))
                (i64.const 0x94d049bb133111eb)))
            (local.set $mixed (i64.xor (local.get $mixed) (i64.shr_u (local.get $mixed) (i64.const 31))))
            (local.set $left (i32.const 8))))
        (i64.store8 (local.get $out) (local.get $mixed))
        (local.set $mixed (i64.shr_u (local.get $mixed) (i64.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (local.set $out (i32.add (local.get $out) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; ---- Writing

  (func (export "fd_write") (param $fd i32) (param $pieces i32) (param $count i32) (param $written i32) (result i32)
    (local $total i32)
    (if (i32.gt_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1))
      (then (return (global.get $BADF))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (call $write (local.get $fd) (i32.load (local.get $pieces)) (i32.load offset=4 (local.get $pieces)))
        (local.set $total (i32.add (local.get $total) (i32.load offset=4 (local.get $pieces))))
        (local.set $pieces (i32.add (local.get $pieces) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $written) (local.get $total))
    (i32.const 0))

  ;; Gathers a line, and hands it on at its end or when there is no more room.
  (func $write (param $fd i32) (param $text i32) (param $length i32)
    (local $char i32)
    (local $gathered i32)
    ;; Standard error is for what is wrong.
    (local $level i32)
    (local.set $level (select (i32.const 2) (i32.const 0) (i32.eq (local.get $fd) (i32.const 1))))
    (if (i32.ne (local.get $level) (global.get $line_level)) (then (call $flush)))
    (global.set $line_level (local.get $level))
    (if (i32.eqz (global.get $line_max))
      (then
        (call $log (local.get $level) (local.get $text) (local.get $length))
        (return)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $length)))
        (local.set $char (i32.load8_u (local.get $text)))
        (if (i32.eq (local.get $char) (i32.const 10))
          (then (call $flush))
          (else
            (if (i32.eq (i32.load offset=24 (global.get $turn)) (global.get $line_max)) (then (call $flush)))
            (local.set $gathered (i32.load offset=24 (global.get $turn)))
            ;; The host takes nothing but UTF-8, and what a program writes need not be. Go's own messages are ASCII.
            (i32.store8 (i32.add (global.get $line) (local.get $gathered))
              (select (local.get $char) (i32.const 63) (i32.lt_u (local.get $char) (i32.const 128))))
            (i32.store offset=24 (global.get $turn) (i32.add (local.get $gathered) (i32.const 1)))))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $next))))

  ;; A write to what is no file: said of the three standard ones, so that Go takes them for terminals and does not wait for them.
  (func (export "fd_fdstat_get") (param $fd i32) (param $out i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (global.get $BADF))))
    (i64.store (local.get $out) (i64.const 2))
    (i64.store offset=8 (local.get $out) (i64.const 64))
    (i64.store offset=16 (local.get $out) (i64.const 0))
    (i32.const 0))

  ;; ---- The end

  (func (export "proc_exit") (param $status i32)
    (call $flush)
    (unreachable))

  ;; ---- No arguments and no environment

  (func $none (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (func (export "args_sizes_get") (param i32 i32) (result i32) (call $none (local.get 0) (local.get 1)))
  (func (export "environ_sizes_get") (param i32 i32) (result i32) (call $none (local.get 0) (local.get 1)))
  (func (export "args_get") (param i32 i32) (result i32) (i32.const 0))
  (func (export "environ_get") (param i32 i32) (result i32) (i32.const 0))

  ;; ---- No files and no sockets

  (func (export "fd_read") (param i32 i32 i32 i32) (result i32) (global.get $BADF))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (global.get $SPIPE))
  (func (export "fd_tell") (param i32 i32) (result i32) (global.get $SPIPE))
  (func (export "fd_close") (param i32) (result i32) (global.get $BADF))
  (func (export "fd_sync") (param i32) (result i32) (global.get $BADF))
  (func (export "fd_datasync") (param i32) (result i32) (global.get $BADF))
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (global.get $BADF))
  (func (export "fd_renumber") (param i32 i32) (result i32) (global.get $BADF))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (global.get $NOSYS))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (global.get $NOSYS))
  (func (export "fd_filestat_get") (param i32 i32) (result i32) (global.get $BADF))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (global.get $BADF))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (global.get $BADF))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (global.get $BADF))
  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (global.get $NOSYS))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "proc_raise") (param i32) (result i32) (global.get $NOSYS))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (global.get $NOSYS))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (global.get $NOSYS)))
