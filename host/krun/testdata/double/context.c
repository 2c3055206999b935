// SPDX-License-Identifier: Apache-2.0

#include "double.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct context contexts[MAX_CONTEXTS];
static int ncontexts;
static bool logs; // a second logger is a panic

struct context *context_of(uint32_t id)
{
	if (id >= (uint32_t)ncontexts || !contexts[id].live)
		return NULL;
	return &contexts[id];
}

void context_drop(struct context *x)
{
	x->live = false; // a test's process is short: what it holds stays
}

char *copied(const char *s)
{
	char *t = s == NULL ? NULL : strdup(s);
	if (s != NULL && t == NULL)
		abort();
	return t;
}

char **copied_words(const char *const words[])
{
	int n = 0;
	while (words != NULL && words[n] != NULL && n < MAX_WORDS)
		n++;
	char **out = calloc((size_t)n + 1, sizeof *out);
	if (out == NULL)
		abort();
	for (int i = 0; i < n; i++)
		out[i] = copied(words[i]);
	return out;
}

static void log_once(void)
{
	if (logs) {
		fprintf(stderr, "double: a second logger\n");
		abort();
	}
	logs = true;
}

API int32_t krun_set_log_level(uint32_t level)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "level", level);
	if (!call_refused(&c, &r))
		log_once();
	return call_close(&c, r);
}

API int32_t krun_init_log(int fd, uint32_t level, uint32_t style, uint32_t options)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "fd", fd);
	call_number(&c, "level", level);
	call_number(&c, "style", style);
	call_number(&c, "options", options);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (fd == 0 || fd < -1 || style > 2 || options > 1)
		return call_close(&c, -EINVAL);
	log_once();
	return call_close(&c, 0);
}

API int32_t krun_create_ctx(void)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	if (call_refused(&c, &r))
		return call_close(&c, r);
	firmware_load();
	if (ncontexts == MAX_CONTEXTS)
		abort();
	contexts[ncontexts] = (struct context){.live = true};
	return call_close(&c, ncontexts++);
}

API int32_t krun_free_ctx(uint32_t id)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	struct context *x = context_of(id);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	context_drop(x);
	return call_close(&c, 0);
}

API int32_t krun_set_vm_config(uint32_t id, uint8_t vcpus, uint32_t ram_mib)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_number(&c, "vcpus", vcpus);
	call_number(&c, "ram_mib", ram_mib);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (context_of(id) == NULL)
		return call_close(&c, -ENOENT);
	return call_close(&c, vcpus == 0 || ram_mib == 0 ? -EINVAL : 0);
}

API int32_t krun_disable_implicit_vsock(uint32_t id)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	struct context *x = context_of(id);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	x->vsock = VSOCK_DISABLED; // an explicit one too
	return call_close(&c, 0);
}

API int32_t krun_add_vsock(uint32_t id, uint32_t tsi)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_number(&c, "tsi", tsi);
	struct context *x = context_of(id);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if ((tsi & ~3U) != 0)
		return call_close(&c, -EINVAL);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	if (x->vsock != VSOCK_DISABLED)
		return call_close(&c, -EEXIST);
	x->vsock = VSOCK_EXPLICIT;
	return call_close(&c, 0);
}

// port_put keeps the last of two with one number, as libkrun does.
static int32_t port_put(struct context *x, uint32_t number, const char *path, bool listen)
{
	int i = 0;
	while (i < x->nports && x->ports[i].number != number)
		i++;
	if (i == MAX_PORTS)
		abort();
	if (i == x->nports)
		x->nports++;
	x->ports[i] = (struct port){number, copied(path), listen};
	return 0;
}

static int32_t port_add(struct call *c, uint32_t id, uint32_t number, const char *path, bool listen)
{
	struct stat st;
	int32_t r;
	char *dir = copied(path);
	if (listen && strrchr(dir, '/') != NULL) {
		*strrchr(dir, '/') = 0;
		record_dir(dir);
	}
	free(dir);
	if (call_refused(c, &r))
		return call_close(c, r);
	if (listen && stat(path, &st) == 0)
		return call_close(c, -EEXIST);
	if (listen && errno != ENOENT)
		return call_close(c, -EINVAL);
	struct context *x = context_of(id);
	if (x == NULL)
		return call_close(c, -ENOENT);
	if (x->vsock == VSOCK_DISABLED)
		return call_close(c, -ENODEV);
	return call_close(c, port_put(x, number, path, listen));
}

API int32_t krun_add_vsock_port2(uint32_t id, uint32_t port, const char *path, bool listen)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_number(&c, "port", port);
	call_must(&c, "path", path);
	call_bool(&c, "listen", listen);
	return port_add(&c, id, port, path, listen);
}

API int32_t krun_add_vsock_port(uint32_t id, uint32_t port, const char *path)
{
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	call_number(&c, "port", port);
	call_must(&c, "path", path);
	return port_add(&c, id, port, path, false);
}
