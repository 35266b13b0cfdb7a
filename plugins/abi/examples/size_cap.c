/* size_cap: a policy in plain C. No channel is above a size, and whoever writes too much shares less.
 *
 * Its configuration is one number of bytes. Above it, creating and growing are denied; a channel created without a share gets
 * 100 in writing; a channel that wrote more than the cap in one period gets a share of 10 until it writes less.
 *
 *     cc -std=c11 -Wall -Wextra -shared -fPIC -I plugins/abi/include -o libsize_cap.so plugins/abi/examples/size_cap.c
 */
#include "vfiomux_policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct size_cap {
    const struct vfiomux_host *host;
    uint64_t most_bytes;
    uint64_t denied;
};

static vfiomux_verdict deny(const struct vfiomux_answer_sink *sink, const char *reason)
{
    sink->reason(sink->context, (struct vfiomux_text){reason, strlen(reason)});
    return VFIOMUX_VERDICT_DENY;
}

static vfiomux_verdict size_cap_init(const struct vfiomux_host *host, const struct vfiomux_init_request *request,
                                     void **instance, const struct vfiomux_answer_sink *sink)
{
    /* The text has no NUL, so it is copied to where there is one. */
    char number[24] = {0};
    char *end = number;
    if (request->configuration.len_bytes < sizeof number)
        memcpy(number, request->configuration.data, request->configuration.len_bytes);
    uint64_t most_bytes = strtoull(number, &end, 10);
    if (end == number)
        return deny(sink, "the configuration is a number of bytes");

    struct size_cap *cap = calloc(1, sizeof *cap);
    if (!cap)
        return deny(sink, "there is no memory");
    cap->host = host;
    cap->most_bytes = most_bytes;
    *instance = cap;
    return VFIOMUX_VERDICT_ALLOW;
}

static void size_cap_fini(void *instance)
{
    free(instance);
}

static vfiomux_verdict hold_against_cap(struct size_cap *cap, const struct vfiomux_channel *channel,
                                        const struct vfiomux_answer_sink *sink)
{
    char reason[128];
    if (channel->size_bytes <= cap->most_bytes)
        return VFIOMUX_VERDICT_ALLOW;
    cap->denied++;
    snprintf(reason, sizeof reason, "a channel has at most %" PRIu64 " bytes here", cap->most_bytes);
    return deny(sink, reason);
}

static vfiomux_verdict size_cap_create(void *instance, const struct vfiomux_create_request *request,
                                       const struct vfiomux_answer_sink *sink)
{
    vfiomux_verdict verdict = hold_against_cap(instance, request->channel, sink);
    if (verdict == VFIOMUX_VERDICT_ALLOW && request->channel->guarantees->share == 0) {
        sink->amend(sink->context, VFIOMUX_SETTING_SHARE, 100);
        verdict = VFIOMUX_VERDICT_AMEND;
    }
    return verdict;
}

static vfiomux_verdict size_cap_tune(void *instance, const struct vfiomux_tune_request *request,
                                     const struct vfiomux_answer_sink *sink)
{
    return hold_against_cap(instance, request->wanted, sink);
}

static void size_cap_tick(void *instance, const struct vfiomux_tick_request *request,
                          const struct vfiomux_retune_sink *sink)
{
    struct size_cap *cap = instance;
    for (size_t i = 0; i < request->channels_count; i++) {
        const struct vfiomux_channel_telemetry *did = request->channels[i];
        struct vfiomux_amendment share = {VFIOMUX_SETTING_SHARE, 0, 100};
        if (did->write_bytes > cap->most_bytes)
            share.value = 10;
        if (did->channel->guarantees->share != share.value)
            sink->retune(sink->context, did->channel->id, did->channel->generation, &share, 1);
    }
}

static uint32_t size_cap_save(void *instance, const struct vfiomux_state_sink *sink)
{
    struct size_cap *cap = instance;
    return sink->write(sink->context, (struct vfiomux_text){(const char *)&cap->denied, sizeof cap->denied});
}

static vfiomux_verdict size_cap_restore(void *instance, struct vfiomux_text state,
                                        const struct vfiomux_answer_sink *sink)
{
    struct size_cap *cap = instance;
    if (state.len_bytes != sizeof cap->denied)
        return deny(sink, "this is no state of size_cap");
    memcpy(&cap->denied, state.data, sizeof cap->denied);
    cap->host->log(cap->host->context, VFIOMUX_LOG_LEVEL_INFO, VFIOMUX_TEXT("goes on counting denials"));
    return VFIOMUX_VERDICT_ALLOW;
}

const struct vfiomux_policy vfiomux_policy_v1 = {
    .magic = VFIOMUX_MAGIC,
    .major = VFIOMUX_MAJOR,
    .minor = VFIOMUX_MINOR,
    .struct_size = sizeof(struct vfiomux_policy),
    .name = VFIOMUX_TEXT_INIT("size_cap"),
    .version = VFIOMUX_TEXT_INIT("1.0"),
    .init = size_cap_init,
    .fini = size_cap_fini,
    .create = size_cap_create,
    .tune = size_cap_tune,
    .tick = size_cap_tick,
    .save = size_cap_save,
    .restore = size_cap_restore,
};
