// SPDX-License-Identifier: Apache-2.0
//
// What a caller asks about the library and the host, and what reaches files of the
// host: Waggle calls none of the latter, and its tests look that it does not.

#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef OLDER // 1.17.2 has no such function

API int32_t krun_has_feature(uint64_t feature)
{
	enum { NET, BLK, KNOWN = 11 };
	struct call c;
	call_open(&c, __func__);
	char name[24];
	int32_t r;
	call_number(&c, "feature", (int64_t)feature);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	snprintf(name, sizeof name, "%llu", (unsigned long long)feature);
	const char *ordered = order_about("feature", name);
	if (ordered != NULL)
		return call_close(&c, atoi(ordered));
#ifndef WITHOUT_NET
	if (feature == NET)
		return call_close(&c, 1);
#endif
#ifndef WITHOUT_BLK
	if (feature == BLK)
		return call_close(&c, 1);
#endif
	return call_close(&c, feature < KNOWN ? 0 : -EINVAL);
}

#endif

API int32_t krun_get_max_vcpus(void)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	if (call_refused(&c, &r))
		return call_close(&c, r);
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0 && order_is("kvm", "check"))
		return call_close(&c, -EINVAL);
	if (fd >= 0)
		close(fd);
	return call_close(&c, 16);
}

API int32_t krun_check_nested_virt(void)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	return call_close(&c, call_refused(&c, &r) ? r : -EOPNOTSUPP);
}

// about_context is the result of a call that needs no more than its context.
static int32_t about_context(struct call *c, uint32_t id, int32_t good)
{
	int32_t r;
	if (call_refused(c, &r))
		return call_close(c, r);
	return call_close(c, context_of(id) == NULL ? -ENOENT : good);
}

API int32_t krun_get_shutdown_eventfd(uint32_t id)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	return about_context(&c, id, -EINVAL); // macOS only
}

API int32_t krun_setuid(uint32_t id, uid_t uid)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_number(&c, "uid", uid);
	return about_context(&c, id, 0);
}

API int32_t krun_setgid(uint32_t id, gid_t gid)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_number(&c, "gid", gid);
	return about_context(&c, id, 0);
}

API int32_t krun_set_root(uint32_t id, const char *path)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_must(&c, "path", path);
	struct context *x = context_of(id);
	if (x != NULL)
		x->root = true;
	return about_context(&c, id, 0);
}

API int32_t krun_add_virtiofs(uint32_t id, const char *tag, const char *path)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_must(&c, "tag", tag);
	call_must(&c, "path", path);
	return about_context(&c, id, 0);
}

API int32_t krun_add_virtiofs2(uint32_t id, const char *tag, const char *path, uint64_t shm_size)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_must(&c, "tag", tag);
	call_must(&c, "path", path);
	call_number(&c, "shm_size", (int64_t)shm_size);
	return about_context(&c, id, 0);
}

API int32_t krun_set_mapped_volumes(uint32_t id, const char *const volumes[])
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_words(&c, "volumes", volumes);
	return about_context(&c, id, -EINVAL); // no longer supported
}

API int32_t krun_set_port_map(uint32_t id, const char *const ports[])
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_words(&c, "ports", ports);
	struct context *x = context_of(id);
	bool good = x == NULL || !x->nic; // the map is TSI's
	for (int i = 0; ports[i] != NULL; i++)
		good = good && strchr(ports[i], ':') != NULL;
	return good ? about_context(&c, id, 0) : call_close(&c, -EINVAL);
}
