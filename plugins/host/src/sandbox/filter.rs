//! Which system calls are let through. Any other fails with `EPERM`: a plugin that tries is told no, as by a host that has
//! nothing to give.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::SandboxError;

/// What a policy needs: memory, time, the descriptors that are open, and to end.
const LIFE: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_ppoll,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// What a loader needs beyond that, and what the second filter needs to be set.
const LOADING: &[c_long] = &[
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_pread64,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_seccomp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// For the time in which a library is loaded: files can be read, and memory become code.
pub(super) fn for_loading() -> Result<BpfProgram, SandboxError> {
    let mut rules = always(LIFE.iter().chain(LOADING));
    // Of `openat(directory, path, flags)`, and of `open(path, flags)`.
    let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY;
    rules.insert(libc::SYS_openat, only_if_clear(2, writing)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, only_if_clear(1, writing)?);
    rules.insert(libc::SYS_tgkill, only_self()?);
    // Not to be let go of by the daemon's death, which is another option of the same call.
    let mut options = only_if_equal(0, libc::PR_SET_NO_NEW_PRIVS)?;
    options.append(&mut only_if_equal(0, libc::PR_SET_DUMPABLE)?);
    rules.insert(libc::SYS_prctl, options);
    program(rules)
}

/// For the time after.
pub(super) fn for_life() -> Result<BpfProgram, SandboxError> {
    let mut rules = always(LIFE.iter());
    // Of `mmap` and `mprotect(address, length, protection)`: nothing becomes code any more.
    rules.insert(libc::SYS_mmap, only_if_clear(2, libc::PROT_EXEC)?);
    rules.insert(libc::SYS_mprotect, only_if_clear(2, libc::PROT_EXEC)?);
    rules.insert(libc::SYS_tgkill, only_self()?);
    program(rules)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn always<'a>(calls: impl Iterator<Item = &'a c_long>) -> Rules {
    calls.map(|&call| (call, Vec::new())).collect()
}

/// Lets a call through if none of these bits is set in an argument.
fn only_if_clear(argument: u8, bits: i32) -> Result<Vec<SeccompRule>, SandboxError> {
    let bits = u64::from(bits.cast_unsigned());
    condition(argument, SeccompCmpOp::MaskedEq(bits), 0)
}

/// Lets a call through if an argument has this value.
fn only_if_equal(argument: u8, value: i32) -> Result<Vec<SeccompRule>, SandboxError> {
    condition(argument, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()))
}

/// `tgkill(process, …)`, by which a process aborts itself.
fn only_self() -> Result<Vec<SeccompRule>, SandboxError> {
    only_if_equal(0, std::process::id().cast_signed())
}

fn condition(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<Vec<SeccompRule>, SandboxError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value);
    let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
    Ok(vec![rule.map_err(|error| SandboxError::Filter(error.to_string()))?])
}

fn program(rules: Rules) -> Result<BpfProgram, SandboxError> {
    let wrong = |error: seccompiler::BackendError| SandboxError::Filter(error.to_string());
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(wrong)?;
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, machine).map_err(wrong)?;
    BpfProgram::try_from(filter).map_err(wrong)
}

/// Sets a filter, which also gives up new privileges. Filters add up: what one denies, no later one allows.
pub(super) fn apply(program: &BpfProgram) -> Result<(), SandboxError> {
    seccompiler::apply_filter(program).map_err(|error| SandboxError::Filter(error.to_string()))
}
