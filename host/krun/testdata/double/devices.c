// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "double.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifndef WITHOUT_BLK // such a build has none of these symbols

static int32_t disk_add(struct call *c, uint32_t id, const char *path, uint32_t format, uint32_t sync, bool ro)
{
	struct context *x = context_of(id);
	int32_t r;
	if (call_refused(c, &r))
		return call_close(c, r);
	if (format > 2 || sync > 2)
		return call_close(c, -EINVAL);
	if (x == NULL)
		return call_close(c, -ENOENT);
	if (x->ndisks == MAX_DISKS)
		abort();
	x->disks[x->ndisks++] = (struct disk){copied(path), ro}; // opened at the start
	return call_close(c, 0);
}

API int32_t krun_add_disk2(uint32_t id, const char *name, const char *path, uint32_t format, bool ro)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_must(&c, "id", name);
	call_must(&c, "path", path);
	call_number(&c, "format", format);
	call_bool(&c, "ro", ro);
	return disk_add(&c, id, path, format, 2, ro);
}

API int32_t krun_add_disk(uint32_t id, const char *name, const char *path, bool ro)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_must(&c, "id", name);
	call_must(&c, "path", path);
	call_bool(&c, "ro", ro);
	return disk_add(&c, id, path, 0, 2, ro);
}

API int32_t krun_add_disk3(uint32_t id, const char *name, const char *path, uint32_t format, bool ro, bool direct, uint32_t sync)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_must(&c, "id", name);
	call_must(&c, "path", path);
	call_number(&c, "format", format);
	call_bool(&c, "ro", ro);
	call_bool(&c, "direct_io", direct);
	call_number(&c, "sync", sync);
	return disk_add(&c, id, path, format, sync, ro);
}

// The root that a remount replaces is a directory of the host, made at the call.
static char *empty_root(void)
{
	const char *tmp = getenv("TMPDIR");
	char *path = NULL;
	if (asprintf(&path, "%s/krun-empty-root-XXXXXX", tmp != NULL ? tmp : "/tmp") < 0)
		abort();
	if (mkdtemp(path) == NULL) {
		free(path);
		return NULL;
	}
	return path;
}

API int32_t krun_set_root_disk_remount(uint32_t id, const char *device, const char *fstype, const char *options)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_must(&c, "device", device);
	call_text(&c, "fstype", fstype);
	call_text(&c, "options", options);
	struct context *x = context_of(id);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	if (x->ndisks == 0 || x->root || x->remount)
		return call_close(&c, -EINVAL);
	x->empty = empty_root();
	if (x->empty == NULL)
		return call_close(&c, -EINVAL);
	x->remount = true;
	return call_close(&c, 0);
}

#endif

#ifndef WITHOUT_NET

// CSUM GUEST_CSUM GUEST_TSO4 GUEST_TSO6 GUEST_UFO HOST_TSO4 HOST_TSO6 HOST_UFO
static const uint32_t offloads = 1U << 0 | 1U << 1 | 1U << 7 | 1U << 8 | 1U << 10 | 1U << 11 | 1U << 12 | 1U << 14;

struct nic {
	const char *path;
	int fd;
	const uint8_t *mac;
	uint32_t features, flags, known_flags;
};

static int32_t nic_add(struct call *c, uint32_t id, const struct nic *n)
{
	int32_t r;
	call_number(c, "ctx", id);
	call_text(c, "path", n->path);
	call_number(c, "fd", n->fd);
	call_mac(c, n->mac);
	call_number(c, "features", n->features);
	call_number(c, "flags", n->flags);
	if (call_refused(c, &r))
		return call_close(c, r);
	if ((n->path != NULL) == (n->fd >= 0) || (n->flags & ~n->known_flags) != 0 || (n->features & ~offloads) != 0)
		return call_close(c, -EINVAL);
	struct context *x = context_of(id);
	if (x == NULL)
		return call_close(c, -ENOENT);
	x->nic = true; // its descriptor stays open: it is libkrun's now
	return call_close(c, 0);
}

API int32_t krun_add_net_unixstream(uint32_t id, const char *path, int fd, uint8_t *const mac, uint32_t features, uint32_t flags)
{
	struct call c;
	call_open(&c, __func__);
	return nic_add(&c, id, &(struct nic){path, fd, mac, features, flags, 0});
}

API int32_t krun_add_net_unixgram(uint32_t id, const char *path, int fd, uint8_t *const mac, uint32_t features, uint32_t flags)
{
	struct call c;
	call_open(&c, __func__);
	return nic_add(&c, id, &(struct nic){path, fd, mac, features, flags, 1}); // with vfkit's greeting
}

API int32_t krun_add_net_tap(uint32_t id, char *tap, uint8_t *const mac, uint32_t features, uint32_t flags)
{
	struct call c;
	call_open(&c, __func__);
	if (tap == NULL)
		call_must(&c, "path", NULL);
	return nic_add(&c, id, &(struct nic){tap, -1, mac, features, flags, 0});
}

#endif

API int32_t krun_set_console_output(uint32_t id, const char *path)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_must(&c, "path", path);
	struct context *x = context_of(id);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	if (x->console != NULL)
		return call_close(&c, -EINVAL);
	x->console = copied(path);
	return call_close(&c, 0);
}
