/* A plugin whose header says what the compiler's defines say. */
#include "vfiomux_policy.h"

#ifndef MAGIC
#define MAGIC VFIOMUX_MAGIC
#endif
#ifndef MAJOR
#define MAJOR VFIOMUX_MAJOR
#endif
#ifndef MINOR
#define MINOR VFIOMUX_MINOR
#endif
#ifndef SIZE
#define SIZE sizeof(struct vfiomux_policy)
#endif

static vfiomux_verdict create(void *instance, const struct vfiomux_create_request *request,
                              const struct vfiomux_answer_sink *sink)
{
    (void)instance;
    (void)request;
    sink->reason(sink->context, VFIOMUX_TEXT("as every version says"));
    return VFIOMUX_VERDICT_DENY;
}

#ifdef GARBAGE_BEHIND
/* Behind the table of an older minor stands anything; calling it would end the test. */
#define SAVE ((uint32_t (*)(void *, const struct vfiomux_state_sink *))1)
#else
static uint32_t save(void *instance, const struct vfiomux_state_sink *sink)
{
    (void)instance;
    return sink->write(sink->context, VFIOMUX_TEXT("state"));
}
#define SAVE save
#endif

const struct vfiomux_policy vfiomux_policy_v1 = {
    .magic = MAGIC,
    .major = MAJOR,
    .minor = MINOR,
    .struct_size = SIZE,
    .name = VFIOMUX_TEXT_INIT("versioned"),
    .version = VFIOMUX_TEXT_INIT("0"),
    .create = create,
    .save = SAVE,
};
