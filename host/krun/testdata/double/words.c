// SPDX-License-Identifier: Apache-2.0
//
// What runs in the guest, and with which words.

#include "double.h"

#include <errno.h>
#include <stdlib.h>

extern char **environ;

API int32_t krun_set_exec(uint32_t id, const char *path, const char *const argv[], const char *const envp[])
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_must(&c, "path", path);
	call_words(&c, "argv", argv);
	call_words(&c, "envp", envp);
	struct context *x = context_of(id);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	x->exec = copied(path);
	x->argv = copied_words(argv);
	// Without an array the guest gets the whole environment of this process.
	x->envp = copied_words(envp != NULL ? envp : (const char *const *)environ);
	return call_close(&c, 0);
}

API int32_t krun_set_env(uint32_t id, const char *const envp[])
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_words(&c, "envp", envp);
	struct context *x = context_of(id);
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	x->envp = copied_words(envp != NULL ? envp : (const char *const *)environ);
	return call_close(&c, 0);
}

API int32_t krun_set_workdir(uint32_t id, const char *path)
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_must(&c, "path", path);
	if (!call_refused(&c, &r) && context_of(id) == NULL)
		r = -ENOENT;
	return call_close(&c, r);
}

API int32_t krun_set_rlimits(uint32_t id, const char *const limits[])
{
	struct call c;
	call_open(&c, __func__);
	int32_t r;
	call_number(&c, "ctx", id);
	call_words(&c, "limits", limits);
	if (!call_refused(&c, &r))
		r = limits == NULL ? -EINVAL : context_of(id) == NULL ? -ENOENT : 0;
	return call_close(&c, r);
}
