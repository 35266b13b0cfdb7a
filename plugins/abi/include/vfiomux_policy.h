/* The C ABI of vfiomux policy plugins. A plugin is a shared library that exports one object:
 *
 *     const struct vfiomux_policy vfiomux_policy_v1 = { ... };
 *
 * Generated from plugins/abi; change it there. The rules are in docs/guide/plugins.md.
 */

#pragma once

#include <stddef.h>
#include <stdint.h>

/* The text of a string literal: to begin a structure with, and as a value. */
#define VFIOMUX_TEXT_INIT(literal) {(literal), sizeof(literal) - 1}
#define VFIOMUX_TEXT(literal) ((struct vfiomux_text)VFIOMUX_TEXT_INIT(literal))

/* Whether what the host gave is new enough to have the field. */
#define VFIOMUX_HAS(pointer, field) \
    ((pointer)->struct_size >= (size_t)((const char *)(&(pointer)->field + 1) - (const char *)(pointer)))

// Most bytes of a denial's reason; what is longer is cut.
#define VFIOMUX_REASON_BYTES_MAX 1024

// Most amendments in one answer, and in one retune.
#define VFIOMUX_AMENDMENTS_MAX 64

// Most retunes that one hook may give.
#define VFIOMUX_RETUNES_MAX 4096

// Most bytes of state that a plugin may leave to its successor.
#define VFIOMUX_STATE_BYTES_MAX (1 << 20)

// The first field of a `vfiomux_policy`: `vfiomuxP` in memory on a little-endian host.
#define VFIOMUX_MAGIC 5798513633120577142

// Changes with what no older plugin or host can understand.
#define VFIOMUX_MAJOR 1

// Changes with what is added. 1: `save` and `restore`.
#define VFIOMUX_MINOR 1

// UTF-8 text or plain bytes, without a NUL at the end. A length of 0 is no text, whatever the pointer is.
struct vfiomux_text {
  // The first byte.
  const char *data;
  // How many there are.
  size_t len_bytes;
};

// What a hook answers. Any number may come back, and only these three mean something. Any other is no answer: the plugin is taken
// for broken, its process is killed and started again, and what holds is what holds for a plugin that does not answer.
typedef uint32_t vfiomux_verdict;
// As asked.
#define VFIOMUX_VERDICT_ALLOW 0
// Not at all, with a reason given to the sink.
#define VFIOMUX_VERDICT_DENY 1
// With the amendments that were given to the sink, in their order.
#define VFIOMUX_VERDICT_AMEND 2

// How much a line of the log matters.
typedef uint32_t vfiomux_log_level;
// Somebody must do something.
#define VFIOMUX_LOG_LEVEL_ERROR 1
// Somebody should look.
#define VFIOMUX_LOG_LEVEL_WARN 2
// Worth knowing.
#define VFIOMUX_LOG_LEVEL_INFO 3
// For who writes the plugin.
#define VFIOMUX_LOG_LEVEL_DEBUG 4

// What the host does for a plugin. Valid from `init` until `fini` has returned.
struct vfiomux_host {
  // Size of this structure.
  uint32_t struct_size;
  // Minor version that the host speaks.
  uint32_t minor;
  // Given back as the first argument of the function.
  void *context;
  // Writes a line to the daemon's log, under the plugin's name. Too many are dropped, and counted.
  void (*log)(void *context, vfiomux_log_level level, struct vfiomux_text line);
};

// The plugin is to begin.
struct vfiomux_init_request {
  // Size of this structure.
  uint32_t struct_size;
  // 0.
  uint32_t reserved;
  // What the operator calls this instance.
  struct vfiomux_text name;
  // The configuration, as the operator gave it; what it means is the plugin's affair.
  struct vfiomux_text configuration;
};

// Whether a sink took what it was given. 0 is yes; anything else is not, and why.
typedef uint32_t vfiomux_refused;
// Taken.
#define VFIOMUX_REFUSED_TAKEN 0
// The sink holds as much as it may. An answer that was cut is no answer, whatever the hook then returns.
#define VFIOMUX_REFUSED_FULL 1
// It makes no sense: a null pointer, or a channel that the request did not name.
#define VFIOMUX_REFUSED_SENSELESS 2

// What an amendment may change. Any number may come back; one that the request does not have, or to a value that it cannot have,
// makes the answer a denial that says so. Of new guarantees, it makes that retune nothing.
typedef uint32_t vfiomux_setting;
// A channel's size.
#define VFIOMUX_SETTING_SIZE_BYTES 1
// Most virtqueues that a front-end may start.
#define VFIOMUX_SETTING_QUEUES 2
// Writes are refused: 0 or 1.
#define VFIOMUX_SETTING_READ_ONLY 3
// Limit of operations of any kind; 0 takes it away, as for each limit that follows.
#define VFIOMUX_SETTING_OPS 16
// Operations that may go at once after a pause; 0 for what a tenth of a second is worth, as for each burst that follows.
#define VFIOMUX_SETTING_OPS_BURST 17
// Limit of bytes read and written.
#define VFIOMUX_SETTING_BYTES 18
// Bytes that may go at once after a pause.
#define VFIOMUX_SETTING_BYTES_BURST 19
// Limit of read operations.
#define VFIOMUX_SETTING_READ_OPS 20
// Read operations that may go at once after a pause.
#define VFIOMUX_SETTING_READ_OPS_BURST 21
// Limit of bytes read.
#define VFIOMUX_SETTING_READ_BYTES 22
// Bytes that may be read at once after a pause.
#define VFIOMUX_SETTING_READ_BYTES_BURST 23
// Limit of operations that are no reads.
#define VFIOMUX_SETTING_WRITE_OPS 24
// Operations that are no reads and may go at once after a pause.
#define VFIOMUX_SETTING_WRITE_OPS_BURST 25
// Limit of bytes written.
#define VFIOMUX_SETTING_WRITE_BYTES 26
// Bytes that may be written at once after a pause.
#define VFIOMUX_SETTING_WRITE_BYTES_BURST 27
// Promised minimum: reads of 4 KiB a second, or what costs as much; 0 for none.
#define VFIOMUX_SETTING_RESERVATION_OPS 32
// Weight over what is left, 1 to 10000; 0 for the usual weight.
#define VFIOMUX_SETTING_SHARE 33
// Latency target; 0 for none.
#define VFIOMUX_SETTING_OBJECTIVE_LATENCY_NS 34
// The part of requests, in thousandths, that must meet the latency target: 990 is the 99th percentile.
#define VFIOMUX_SETTING_OBJECTIVE_PERMILLE 35

// Takes what stands beside a verdict. Valid during the call it was given to.
struct vfiomux_answer_sink {
  // Size of this structure.
  uint32_t struct_size;
  // 0.
  uint32_t reserved;
  // Given back as the first argument of each function.
  void *context;
  // Takes the reason of a denial; the last one given stands.
  vfiomux_refused (*reason)(void *context, struct vfiomux_text reason);
  // Takes an amendment; they are applied in order.
  vfiomux_refused (*amend)(void *context, vfiomux_setting setting, uint64_t value);
};

// A function was found on the host. A denial leaves it unclaimable, with the reason shown beside it.
struct vfiomux_discover_request {
  // Size of this structure.
  uint32_t struct_size;
  // PCI vendor.
  uint32_t vendor_id;
  // PCI device.
  uint32_t device_id;
  // PCI class code, 24 bits.
  uint32_t class_code;
  // The function, such as `0000:03:00.0`.
  struct vfiomux_text device;
  // The kernel driver that holds it; empty for none.
  struct vfiomux_text driver;
};

// A function is to be ours.
struct vfiomux_claim_request {
  // Size of this structure.
  uint32_t struct_size;
  // Who asks.
  uint32_t caller_uid;
  // Nothing will come of it: 0 or 1.
  uint32_t dry_run;
  // Also without an IOMMU that protects the host from it: 0 or 1.
  uint32_t unprotected;
  // The function, such as `0000:03:00.0`.
  struct vfiomux_text device;
};

// One label of a channel, such as `tier` and `gold`. It will not grow, and has no size of its own.
struct vfiomux_label {
  // Its key, which a channel has once at most.
  struct vfiomux_text key;
  // Its value.
  struct vfiomux_text value;
};

// A hard maximum. It will not grow, and has no size of its own.
struct vfiomux_rate_limit {
  // So many a second; 0 for no limit.
  uint64_t per_second;
  // So many at once after a pause; 0 for what a tenth of a second is worth.
  uint64_t burst;
};

// What a channel is promised, and what it is held to. 0 is neither.
struct vfiomux_guarantees {
  // Size of this structure.
  uint32_t struct_size;
  // Weight over what is left, from 1 to 10000; 0 for the usual 100.
  uint32_t share;
  // Most operations of any kind.
  struct vfiomux_rate_limit ops;
  // Most bytes, read and written.
  struct vfiomux_rate_limit bytes;
  // Most read operations.
  struct vfiomux_rate_limit read_ops;
  // Most bytes read.
  struct vfiomux_rate_limit read_bytes;
  // Most operations that are no reads.
  struct vfiomux_rate_limit write_ops;
  // Most bytes written.
  struct vfiomux_rate_limit write_bytes;
  // Reads of 4 KiB a second, or what costs as much, that it gets whenever it asks for them.
  uint64_t reservation_ops;
  // Latency that the part of requests below must meet.
  uint64_t objective_latency_ns;
  // That part, in thousandths: 990 is the 99th percentile.
  uint32_t objective_permille;
  // 0.
  uint32_t reserved;
};

// A channel's setting, as asked for or as it is.
struct vfiomux_channel {
  // Size of this structure.
  uint32_t struct_size;
  // Most virtqueues that a front-end may start.
  uint32_t queues;
  // Its identity, a UUID; empty for a channel that does not exist yet.
  struct vfiomux_text id;
  // What requests call it.
  struct vfiomux_text name;
  // Whose it is.
  struct vfiomux_text tenant;
  // The function it is carved from.
  struct vfiomux_text device;
  // Its size.
  uint64_t size_bytes;
  // The setting's generation; 0 for a channel that does not exist yet.
  uint64_t generation;
  // Writes are refused: 0 or 1.
  uint32_t read_only;
  // How many labels there are.
  uint32_t labels_count;
  // Its labels, ordered by key.
  const struct vfiomux_label *labels;
  // What it is promised, and what it is held to.
  const struct vfiomux_guarantees *guarantees;
};

// A device, and what it has left.
struct vfiomux_device {
  // Size of this structure.
  uint32_t struct_size;
  // Most virtqueues that a channel on it can have.
  uint32_t queues_max;
  // The function, such as `0000:03:00.0`.
  struct vfiomux_text name;
  // Bytes of its pool.
  uint64_t capacity_bytes;
  // Bytes left in its pool; for a channel that exists, beyond what it has.
  uint64_t free_bytes;
  // Reads of 4 KiB a second that it was measured to do; 0 while it has not been calibrated.
  uint64_t calibrated_ops;
  // What may still be reserved of them; for a channel that exists, beyond what it has.
  uint64_t reservation_ops_left;
  // Channels carved from it.
  uint32_t channels;
  // 0.
  uint32_t reserved;
};

// A tenant, and what it already has, on all devices together and not counting what is asked for.
struct vfiomux_tenant {
  // Size of this structure.
  uint32_t struct_size;
  // Its channels.
  uint32_t channels;
  // Its name.
  struct vfiomux_text name;
  // The sum of its channels' sizes.
  uint64_t size_bytes;
  // The sum of its channels' reservations.
  uint64_t reservation_ops;
};

// A channel is to come to be. Every setting may be amended.
struct vfiomux_create_request {
  // Size of this structure.
  uint32_t struct_size;
  // Who asks.
  uint32_t caller_uid;
  // Nothing will come of it: 0 or 1.
  uint32_t dry_run;
  // 0.
  uint32_t reserved;
  // The channel, as asked for.
  const struct vfiomux_channel *channel;
  // Its device, and what that has left.
  const struct vfiomux_device *device;
  // Its tenant, and what that already has.
  const struct vfiomux_tenant *tenant;
};

// A channel is to have an endpoint. Nothing can be amended.
struct vfiomux_attach_request {
  // Size of this structure.
  uint32_t struct_size;
  // Who asks.
  uint32_t caller_uid;
  // Nothing will come of it: 0 or 1.
  uint32_t dry_run;
  // The VMM listens there, and the daemon connects: 0 or 1.
  uint32_t client;
  // The channel.
  const struct vfiomux_channel *channel;
  // Path of the unix socket.
  struct vfiomux_text endpoint;
};

// A front-end has connected and asks for features and brings memory. Nothing can be amended; a denial ends the session.
struct vfiomux_session_request {
  // Size of this structure.
  uint32_t struct_size;
  // Regions of guest memory.
  uint32_t memory_regions;
  // The channel.
  const struct vfiomux_channel *channel;
  // Virtio and vhost-user feature bits that we offered.
  uint64_t features_offered;
  // Those that the front-end took.
  uint64_t features_taken;
  // Bytes of guest memory.
  uint64_t memory_bytes;
  // Process of the front-end; 0 when it is not known.
  uint32_t peer_pid;
  // Its user.
  uint32_t peer_uid;
};

// A channel's setting is to change: size, virtqueues or guarantees. Every setting may be amended.
struct vfiomux_tune_request {
  // Size of this structure.
  uint32_t struct_size;
  // Who asks.
  uint32_t caller_uid;
  // Nothing will come of it: 0 or 1.
  uint32_t dry_run;
  // 0.
  uint32_t reserved;
  // The channel, as it is.
  const struct vfiomux_channel *channel;
  // The channel, as asked for. Id, name, tenant, device and generation are the same.
  const struct vfiomux_channel *wanted;
  // Its device, and what that has left beyond what the channel has.
  const struct vfiomux_device *device;
  // Its tenant, and what that has without this channel.
  const struct vfiomux_tenant *tenant;
};

// What a channel did and met in one period. Counts and times are of the period, not since the beginning.
struct vfiomux_channel_telemetry {
  // Size of this structure.
  uint32_t struct_size;
  // A front-end is connected and its rings are served: 0 or 1.
  uint32_t active;
  // The channel, with its generation, labels and present guarantees.
  const struct vfiomux_channel *channel;
  // Operations completed.
  uint64_t ops;
  // Of which reads.
  uint64_t read_ops;
  // Of which no reads.
  uint64_t write_ops;
  // Bytes read and written.
  uint64_t bytes;
  // Bytes read.
  uint64_t read_bytes;
  // Bytes written.
  uint64_t write_bytes;
  // Half of the requests took no longer, from the ring and back to it; 0 when there was none.
  uint64_t latency_p50_ns;
  // 99 of 100 took no longer.
  uint64_t latency_p99_ns;
  // 999 of 1000 took no longer.
  uint64_t latency_p999_ns;
  // How long its requests were held back by its own limits.
  uint64_t throttle_ns;
  // Operations of its reservation that it asked for and did not get.
  uint64_t reservation_shortfall_ops;
  // How long its requests waited for their turn at the device, summed over the requests.
  uint64_t queue_wait_ns;
};

// Once a second: what the channels did. New guarantees go to the sink.
struct vfiomux_tick_request {
  // Size of this structure.
  uint32_t struct_size;
  // 0.
  uint32_t reserved;
  // Seconds since 1970-01-01 00:00:00 UTC, by the host's clock; it may jump.
  uint64_t unix_seconds;
  // How long the period was, by a clock that does not jump.
  uint64_t period_ns;
  // One entry a channel, as a list of pointers.
  const struct vfiomux_channel_telemetry *const *channels;
  // How many there are.
  size_t channels_count;
};

// One setting, and the value that it must have, in its unit. It will not grow, and has no size of its own.
struct vfiomux_amendment {
  // Which.
  vfiomux_setting setting;
  // 0.
  uint32_t reserved;
  // Its value.
  uint64_t value;
};

// Takes new guarantees. Valid during the call it was given to.
struct vfiomux_retune_sink {
  // Size of this structure.
  uint32_t struct_size;
  // 0.
  uint32_t reserved;
  // Given back as the first argument of the function.
  void *context;
  // Takes what must change of one channel's guarantees, all of it or nothing. `generation` is the one that the request
  // named: when the channel has moved on since, the retune is dropped.
  vfiomux_refused (*retune)(void *context,
                    struct vfiomux_text channel_id,
                    uint64_t generation,
                    const struct vfiomux_amendment *amendments,
                    size_t amendments_count);
};

// What runs short.
typedef uint32_t vfiomux_pressure_kind;
// Time of a sidecore.
#define VFIOMUX_PRESSURE_KIND_SIDECORE 1
// Operations of a device: reservations fall short.
#define VFIOMUX_PRESSURE_KIND_DEVICE 2
// Pinned memory.
#define VFIOMUX_PRESSURE_KIND_MEMORY 3

// Something runs short. New guarantees go to the sink.
struct vfiomux_pressure_request {
  // Size of this structure.
  uint32_t struct_size;
  // What runs short.
  vfiomux_pressure_kind kind;
  // How much of it is in use, in thousandths.
  uint32_t level_permille;
  // 0.
  uint32_t reserved;
  // Which: a function, or the number of a sidecore; empty when there is one only.
  struct vfiomux_text subject;
  // The channels that draw on it, with what they did in the last period, as a list of pointers.
  const struct vfiomux_channel_telemetry *const *channels;
  // How many there are.
  size_t channels_count;
};

// What went wrong.
typedef uint32_t vfiomux_fault_kind;
// A device answers with errors, or not in time.
#define VFIOMUX_FAULT_KIND_DEVICE 1
// A device is gone.
#define VFIOMUX_FAULT_KIND_DEVICE_LOST 2
// A front-end broke the protocol, and its channel is quarantined.
#define VFIOMUX_FAULT_KIND_FRONT_END 3
// A channel's rings or requests make no sense, and it is quarantined.
#define VFIOMUX_FAULT_KIND_CHANNEL 4

// Something went wrong. A denial says that the channel shall stay quarantined until an operator resumes or destroys it;
// otherwise the daemon does what it does by itself. New guarantees, of other channels, go to the sink.
struct vfiomux_fault_request {
  // Size of this structure.
  uint32_t struct_size;
  // What went wrong.
  vfiomux_fault_kind kind;
  // The device that it was met on.
  struct vfiomux_text device;
  // What was seen, for people.
  struct vfiomux_text description;
  // The channel that it hit; null when it is the device alone.
  const struct vfiomux_channel *channel;
};

// A channel is to go to another device, on this host or another. Every setting may be amended, for life over there.
struct vfiomux_migrate_request {
  // Size of this structure.
  uint32_t struct_size;
  // Who asks.
  uint32_t caller_uid;
  // Nothing will come of it: 0 or 1.
  uint32_t dry_run;
  // 0.
  uint32_t reserved;
  // The channel, as it is.
  const struct vfiomux_channel *channel;
  // The device it goes to; null when that is on another host.
  const struct vfiomux_device *target;
  // The other host; empty for this one.
  struct vfiomux_text target_host;
  // Its tenant, and what that has without this channel.
  const struct vfiomux_tenant *tenant;
};

// A channel is to end. Nothing can be amended.
struct vfiomux_destroy_request {
  // Size of this structure.
  uint32_t struct_size;
  // Who asks.
  uint32_t caller_uid;
  // Nothing will come of it: 0 or 1.
  uint32_t dry_run;
  // Also while a front-end is connected: 0 or 1.
  uint32_t force;
  // The channel.
  const struct vfiomux_channel *channel;
};

// Takes the state that a plugin leaves to its successor. Valid during the call it was given to.
struct vfiomux_state_sink {
  // Size of this structure.
  uint32_t struct_size;
  // 0.
  uint32_t reserved;
  // Given back as the first argument of the function.
  void *context;
  // Takes some bytes, to stand behind those given before.
  vfiomux_refused (*write)(void *context, struct vfiomux_text bytes);
};

// What a plugin exports: a header that says what it is, and its hooks. A hook that is null allows, or changes nothing.
//
// `instance` is what `init` made, and is the plugin's own.
struct vfiomux_policy {
  // `VFIOMUX_MAGIC`.
  uint64_t magic;
  // `VFIOMUX_MAJOR` that the plugin was built against.
  uint32_t major;
  // `VFIOMUX_MINOR` that the plugin was built against.
  uint32_t minor;
  // Size of this structure, as the plugin knows it.
  uint32_t struct_size;
  // 0.
  uint32_t reserved;
  // What the plugin is called by its author.
  struct vfiomux_text name;
  // The plugin's own version.
  struct vfiomux_text version;
  // Begins: makes an instance of the configuration and leaves it in `*instance`. A denial refuses the configuration, with
  // the reason, and nothing else is called. Null is an instance of null.
  vfiomux_verdict (*init)(const struct vfiomux_host *host,
                     const struct vfiomux_init_request *request,
                     void **instance,
                     const struct vfiomux_answer_sink *sink);
  // Ends: the instance is not used again. Called only when `init` allowed.
  void (*fini)(void *instance);
  // May this function be offered?
  vfiomux_verdict (*discover)(void *instance,
                         const struct vfiomux_discover_request *request,
                         const struct vfiomux_answer_sink *sink);
  // May this function be ours?
  vfiomux_verdict (*claim)(void *instance,
                      const struct vfiomux_claim_request *request,
                      const struct vfiomux_answer_sink *sink);
  // May this channel come to be?
  vfiomux_verdict (*create)(void *instance,
                       const struct vfiomux_create_request *request,
                       const struct vfiomux_answer_sink *sink);
  // May a front-end reach this channel there?
  vfiomux_verdict (*attach)(void *instance,
                       const struct vfiomux_attach_request *request,
                       const struct vfiomux_answer_sink *sink);
  // May this front-end go on, with these features and this memory?
  vfiomux_verdict (*session)(void *instance,
                        const struct vfiomux_session_request *request,
                        const struct vfiomux_answer_sink *sink);
  // May this channel's setting become this one?
  vfiomux_verdict (*tune)(void *instance,
                     const struct vfiomux_tune_request *request,
                     const struct vfiomux_answer_sink *sink);
  // A period has passed: this is what the channels did.
  void (*tick)(void *instance, const struct vfiomux_tick_request *request, const struct vfiomux_retune_sink *sink);
  // Something runs short.
  void (*pressure)(void *instance,
                   const struct vfiomux_pressure_request *request,
                   const struct vfiomux_retune_sink *sink);
  // Something went wrong.
  vfiomux_verdict (*fault)(void *instance,
                      const struct vfiomux_fault_request *request,
                      const struct vfiomux_answer_sink *sink,
                      const struct vfiomux_retune_sink *retunes);
  // May this channel go there?
  vfiomux_verdict (*migrate)(void *instance,
                        const struct vfiomux_migrate_request *request,
                        const struct vfiomux_answer_sink *sink);
  // May this channel end?
  vfiomux_verdict (*destroy)(void *instance,
                        const struct vfiomux_destroy_request *request,
                        const struct vfiomux_answer_sink *sink);
  // Since minor 1. Gives the sink what a successor needs to go on where this instance is; 0, or it has nothing to leave.
  uint32_t (*save)(void *instance, const struct vfiomux_state_sink *sink);
  // Since minor 1. Called after `init`, with what a predecessor saved. A denial says why it is of no use, and the instance goes
  // on without it.
  vfiomux_verdict (*restore)(void *instance, struct vfiomux_text state, const struct vfiomux_answer_sink *sink);
};

/* What the plugin exports. */
#ifdef __cplusplus
extern "C" const struct vfiomux_policy vfiomux_policy_v1;
#else
extern const struct vfiomux_policy vfiomux_policy_v1;
#endif
