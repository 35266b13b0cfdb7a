//! ISO2, P2: whatever a plugin does, what it brings about is a fallback, an event and a restart.

use std::time::{Duration, Instant};

use vfiomux_policy::{Chain, HostFault, PluginEventKind, PluginSpec, PluginStatus};

use crate::world::{
    begun, chain, create, denial, destroy, faults, faulty, later, library_of, spec, state, tick,
};

const DEADLINE: Duration = Duration::from_millis(300);

/// A plugin that has little time for verdicts.
fn hasty(orders: &str) -> PluginSpec {
    let mut spec = faulty("p", orders);
    (spec.deadlines.verdict, spec.deadlines.report) = (DEADLINE, DEADLINE);
    spec
}

/// What the plugin does in `create` is contained: nothing is created, everything can end, it is told, and it is back when its
/// pause is over. The fault, for a closer look.
fn contained(spec: PluginSpec) -> HostFault {
    let mut chain = chain(spec);
    chain.take_events();
    let reason = denial(&mut chain);
    assert!(reason.starts_with("p: plugin p does not answer: "), "{reason}");
    let [fault] = faults(&mut chain).try_into().unwrap();
    let down = state(&chain);
    assert_eq!((down.pid, down.verdicts.unanswered, down.last_fault), (None, 1, Some(fault.clone())));
    assert!(matches!(down.status, PluginStatus::Down { .. }));
    assert!(chain.ask(destroy()).outcome.is_ok(), "the end of a channel is never held up");
    later(&mut chain);
    let up = state(&chain);
    assert_eq!((up.status, up.restarts), (PluginStatus::Running, 1));
    let started = chain.take_events();
    assert!(started.iter().any(|event| matches!(event.kind, PluginEventKind::Started { again: true, .. })));
    assert!(chain.ask(destroy()).outcome.is_ok());
    fault
}

/// ISO2
#[test]
fn a_plugin_that_hangs_is_contained() {
    let begun = Instant::now();
    let fault = contained(hasty("create hang"));
    assert_eq!(fault, HostFault::Late { question: "create", deadline: DEADLINE });
    assert!(begun.elapsed() >= DEADLINE, "it had its time");
}

/// ISO2
#[test]
fn a_plugin_that_computes_for_ever_is_contained() {
    assert!(matches!(contained(hasty("create spin")), HostFault::Late { .. }));
}

/// ISO2
#[test]
fn a_plugin_that_crashes_is_contained() {
    let HostFault::Died { how, .. } = contained(faulty("p", "create segfault")) else { panic!() };
    assert_eq!(how, "was killed by SIGSEGV");
    let HostFault::Died { how, .. } = contained(faulty("p", "create crash")) else { panic!() };
    assert_eq!(how, "was killed by SIGABRT");
    assert!(matches!(contained(faulty("p", "create recurse")), HostFault::Died { .. }));
}

/// ISO2
#[test]
fn a_plugin_that_exits_is_contained() {
    let HostFault::Died { how, .. } = contained(faulty("p", "create exit")) else { panic!() };
    assert_eq!(how, "exited with status 0");
}

/// ISO2
#[test]
fn a_plugin_that_swells_is_contained() {
    let HostFault::Died { how, last_words } = contained(faulty("p", "create balloon")) else { panic!() };
    assert!(how.starts_with("was killed by SIG"), "{how}");
    assert!(last_words.contains("memory allocation"), "{last_words}");
}

/// ISO2
#[test]
fn answers_that_are_none_are_contained() {
    let HostFault::Garbage { what } = contained(faulty("p", "create lie")) else { panic!() };
    assert_eq!(what, "it answered 77, which is no verdict");
}

/// ISO2
#[test]
fn a_flood_is_contained() {
    let HostFault::Garbage { what } = contained(faulty("p", "create flood")) else { panic!() };
    assert_eq!(what, "it gave more than an answer holds");
}

/// ISO2
#[test]
fn a_flood_of_log_is_cut_and_counted() {
    let mut chain = chain(faulty("p", "tick flood"));
    chain.take_events();
    for _ in 0..3 {
        chain.tick(&tick());
    }
    let lines = chain.take_events();
    assert!(lines.len() < 200, "{}", lines.len());
    assert!(state(&chain).log_dropped > 100_000);
}

/// ISO2: amendments that make no sense are denials in the plugin's name, and it goes on.
#[test]
fn amendments_that_make_no_sense_deny() {
    for orders in ["create lie-settings", "create lie-values"] {
        let mut chain = chain(faulty("p", orders));
        assert!(denial(&mut chain).starts_with("p: amended setting"));
        assert_eq!(state(&chain).status, PluginStatus::Running);
    }
    let mut chain = chain(faulty("p", "create lie-reason"));
    assert_eq!(denial(&mut chain), "p: no reason given");
}

#[test]
fn a_plugin_that_is_slow_but_in_time_is_heard() {
    let mut chain = chain(faulty("p", "create slow 50"));
    let ruling = chain.ask(create());
    assert!(ruling.outcome.is_ok());
    assert!(ruling.answers[1].took_ns >= 50_000_000);
}

/// ISO2: no file, no socket, no process.
#[test]
fn a_plugin_has_nothing_to_reach_out_with() {
    assert_eq!(denial(&mut chain(faulty("p", "create probe"))), "p: probe: nothing worked");
    let sandbox = state(&chain(faulty("p", ""))).sandbox;
    assert!(sandbox.iter().any(|layer| layer == "seccomp"), "{sandbox:?}");
}

/// What the constructors of a library try, and what the plugin tries later, in plain C and without a library of its own.
const BURGLAR: &str = r#"
    #include "vfiomux_policy.h"
    #include <errno.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/prctl.h>
    #include <sys/ptrace.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <signal.h>
    #include <unistd.h>

    static char got[256];

    static void tried(const char *what, long result) {
        if (result >= 0) { strcat(got, what); strcat(got, " "); }
    }

    static void burgle(void) {
        tried("socket", socket(AF_INET, SOCK_STREAM, 0));
        tried("unix", socket(AF_UNIX, SOCK_STREAM, 0));
        tried("write", open("/tmp/vfiomux-burglar", O_WRONLY | O_CREAT, 0600));
        tried("fork", syscall(SYS_fork));
        tried("clone", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
        tried("exec", execl("/bin/true", "true", (char *)0));
        tried("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
        tried("kill", kill(getppid(), 0));
        tried("unlink", unlink("/tmp/vfiomux-nothing") < 0 && errno == ENOENT ? 0 : -1);
        tried("survive", prctl(PR_SET_PDEATHSIG, 0));
        tried("mount", syscall(SYS_unshare, 0x10000000));
        for (int fd = 4; fd < 64; fd++)
            if (fcntl(fd, F_GETFD) >= 0) strcat(got, "descriptor ");
    }

    __attribute__((constructor)) static void constructor(void) { burgle(); }

    static vfiomux_verdict create(void *self, const struct vfiomux_create_request *request,
                                  const struct vfiomux_answer_sink *sink) {
        burgle();
        tried("read", open("/etc/passwd", O_RDONLY));
        tried("code", (long)mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1 : 0);
        sink->reason(sink->context, (struct vfiomux_text){got, strlen(got)});
        return VFIOMUX_VERDICT_DENY;
    }

    const struct vfiomux_policy vfiomux_policy_v1 = {
        .magic = VFIOMUX_MAGIC, .major = VFIOMUX_MAJOR, .minor = VFIOMUX_MINOR,
        .struct_size = sizeof(struct vfiomux_policy),
        .name = {"burglar", 7}, .version = {"1", 1}, .create = create,
    };
"#;

/// ISO2
#[test]
fn what_a_librarys_constructors_try_is_refused_too() {
    let (_directory, library) = library_of(BURGLAR);
    assert_eq!(denial(&mut chain(spec("p", &library))), "p: no reason given");
}

/// ISO2: the host is the plugin's, so what comes from it is believed no more than the plugin.
#[test]
fn nonsense_on_the_socket_itself_is_contained() {
    let (_directory, library) = library_of(
        r#"
        #include "vfiomux_policy.h"
        #include <string.h>
        #include <unistd.h>

        static vfiomux_verdict create(void *self, const struct vfiomux_create_request *request,
                                      const struct vfiomux_answer_sink *sink) {
            char lie[4096];
            memset(lie, 0x11, sizeof lie);
            write(3, lie, sizeof lie);
            return VFIOMUX_VERDICT_ALLOW;
        }

        static vfiomux_verdict destroy(void *self, const struct vfiomux_destroy_request *request,
                                       const struct vfiomux_answer_sink *sink) {
            /* An answer that is well formed, to a question that was not asked. */
            const char text[] = "{\"id\":99,\"reply\":{\"verdict\":\"allow\"}}";
            unsigned header[2] = {sizeof text - 1, 0};
            write(3, header, sizeof header);
            write(3, text, sizeof text - 1);
            return VFIOMUX_VERDICT_DENY;
        }

        const struct vfiomux_policy vfiomux_policy_v1 = {
            .magic = VFIOMUX_MAGIC, .major = VFIOMUX_MAJOR, .minor = VFIOMUX_MINOR,
            .struct_size = sizeof(struct vfiomux_policy),
            .name = {"forger", 6}, .version = {"1", 1}, .create = create, .destroy = destroy,
        };
        "#,
    );
    let mut chain = chain(spec("p", &library));
    assert!(denial(&mut chain).contains("an answer that is none"));
    later(&mut chain);
    chain.take_events();
    assert!(chain.ask(destroy()).outcome.is_ok());
    let [fault] = faults(&mut chain).try_into().unwrap();
    assert!(matches!(fault, HostFault::Garbage { what } if what.contains("answers question 99")));
}

/// A host that dies while nobody asks is noticed by looking after it.
#[test]
fn a_host_that_was_killed_is_noticed_and_started_again() {
    let mut chain = chain(faulty("p", ""));
    let pid = rustix::process::Pid::from_raw(state(&chain).pid.unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let until = Instant::now() + crate::world::PATIENCE;
    while state(&chain).status == PluginStatus::Running {
        assert!(Instant::now() < until);
        chain.maintain(Instant::now());
    }
    let [fault] = faults(&mut chain).try_into().unwrap();
    assert_eq!(fault.to_string(), "was killed by SIGKILL");
    later(&mut chain);
    assert!(chain.ask(create()).outcome.is_ok());
    assert_eq!(state(&chain).restarts, 1);
}

/// V1: each start that fails makes the next pause longer, so that a plugin that cannot live costs little.
#[test]
fn a_plugin_that_dies_at_once_is_started_ever_more_seldom() {
    let mut chain = Chain::default();
    let mut host = vfiomux_policy::PluginHost::new(faulty("p", "init crash"));
    assert!(host.begin().is_err());
    chain.load(0, Box::new(host)).unwrap();
    let mut now = Instant::now();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let PluginStatus::Down { restart_in } = state(&chain).status else { panic!() };
        pauses.push(restart_in);
        now += Duration::from_secs(61);
        chain.maintain(now);
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses[3] > Duration::from_millis(400), "{pauses:?}");
    assert!(denial(&mut chain).contains("SIGABRT"));
}

/// P1, ISO2: when one of several does not answer, nothing is created, and the others go on.
#[test]
fn one_plugin_that_fails_does_not_take_others_along() {
    let mut chain = Chain::default();
    chain.load(1, begun(faulty("good", ""))).unwrap();
    chain.load(2, begun(faulty("bad", "create segfault"))).unwrap();
    assert!(denial(&mut chain).starts_with("bad: "));
    let states = chain.states();
    assert_eq!((states[0].status, states[0].restarts), (PluginStatus::Running, 0));
    assert!(matches!(states[1].status, PluginStatus::Down { .. }));
}
