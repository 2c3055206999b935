// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// What is recorded before it is known where to.
static char *pending;
static size_t npending;
static int record_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int record_open(const char *dir)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", dir, RECORD_FILE);
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

// flush is called with the lock held.
static void flush(const char *dir)
{
	if (record_fd < 0 && access(JAIL_DIR, F_OK) == 0)
		record_fd = record_open(JAIL_DIR);
	else if (record_fd < 0 && getenv("DOUBLE_DIR") != NULL)
		record_fd = record_open(getenv("DOUBLE_DIR"));
	else if (record_fd < 0 && dir != NULL)
		record_fd = record_open(dir);
	if (record_fd < 0 || npending == 0)
		return;
	// One write a line or more: readers see whole lines.
	if (write(record_fd, pending, npending) != (ssize_t)npending)
		perror("double: record");
	npending = 0;
}

void record_dir(const char *dir)
{
	pthread_mutex_lock(&lock);
	flush(dir);
	pthread_mutex_unlock(&lock);
}

static void record(const char *text, size_t size)
{
	pthread_mutex_lock(&lock);
	pending = realloc(pending, npending + size);
	if (pending == NULL)
		abort();
	memcpy(pending + npending, text, size);
	npending += size;
	flush(NULL);
	pthread_mutex_unlock(&lock);
}

static bool utf8(const char *s)
{
	for (const unsigned char *p = (const unsigned char *)s; *p != 0;) {
		int more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 : *p >= 0xf0 && *p < 0xf5 ? 3 : -1;
		if (more < 0)
			return false;
		for (p++; more > 0; more--, p++)
			if ((*p & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static void quote(FILE *out, const char *s)
{
	if (s == NULL) {
		fputs("null", out);
		return;
	}
	fputc('"', out);
	for (const unsigned char *p = (const unsigned char *)s; *p != 0; p++) {
		if (*p == '"' || *p == '\\')
			fprintf(out, "\\%c", *p);
		else if (*p < 0x20)
			fprintf(out, "\\u%04x", *p);
		else
			fputc(*p, out);
	}
	fputc('"', out);
}

static void key_of(struct call *c, const char *key)
{
	fprintf(c->out, "%s\"%s\":", c->first ? "" : ",", key);
	c->first = false;
}

void call_open(struct call *c, const char *name)
{
	*c = (struct call){.name = name, .first = true};
	c->out = open_memstream(&c->text, &c->size); // keeps the two addresses
	if (c->out == NULL)
		abort();
}

void call_number(struct call *c, const char *key, int64_t n)
{
	key_of(c, key);
	fprintf(c->out, "%lld", (long long)n);
}

void call_bool(struct call *c, const char *key, bool b)
{
	key_of(c, key);
	fputs(b ? "true" : "false", c->out);
}

void call_text(struct call *c, const char *key, const char *s)
{
	bool good = s == NULL || utf8(s);
	key_of(c, key);
	quote(c->out, good ? s : "(not UTF-8)");
	c->malformed = c->malformed || !good;
}

void call_must(struct call *c, const char *key, const char *s)
{
	if (s == NULL) {
		// libkrun does not look, and reads address 0.
		fprintf(stderr, "double: %s: %s is NULL\n", c->name, key);
		raise(SIGSEGV);
	}
	call_text(c, key, s);
}

void call_words(struct call *c, const char *key, const char *const words[])
{
	key_of(c, key);
	if (words == NULL) {
		fputs("null", c->out);
		return;
	}
	fputc('[', c->out);
	for (int i = 0; words[i] != NULL && i < MAX_WORDS; i++) {
		if (i > 0)
			fputc(',', c->out);
		bool good = utf8(words[i]);
		quote(c->out, good ? words[i] : "(not UTF-8)");
		c->malformed = c->malformed || !good;
	}
	fputc(']', c->out);
}

void call_mac(struct call *c, const uint8_t *mac)
{
	char text[32];
	if (mac == NULL) {
		call_must(c, "mac", NULL);
		return;
	}
	snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	call_text(c, "mac", text);
}

// written records the call, with its result if it has one.
static void written(struct call *c, const char *kind, const int32_t *result)
{
	char *line = NULL, tail[32] = "";
	if (fclose(c->out) != 0)
		abort();
	if (result != NULL)
		snprintf(tail, sizeof tail, ",\"result\":%d", *result);
	int n = asprintf(&line, "{\"%s\":\"%s\",\"pid\":%d,\"tid\":%d,\"args\":{%s}%s}\n",
		kind, c->name, (int)getpid(), (int)syscall(SYS_gettid), c->text, tail);
	if (n < 0)
		abort();
	record(line, (size_t)n);
	free(line);
	free(c->text);
}

int32_t call_close(struct call *c, int32_t result)
{
	written(c, "call", &result);
	return result;
}

void call_entered(struct call *c)
{
	written(c, "call", NULL);
}

void call_event(struct call *c)
{
	written(c, "event", NULL);
}

bool call_refused(struct call *c, int32_t *result)
{
	const char *code = order_about("fail", c->name);
	if (order_about("abort", c->name) != NULL) {
		call_close(c, 0);
		fprintf(stderr, "double: %s: told to abort\n", c->name);
		abort();
	}
	if (order_about("hang", c->name) != NULL) {
		call_close(c, 0);
		for (;;)
			pause();
	}
	*result = code != NULL ? -atoi(code) : c->malformed ? -EINVAL : 0;
	return *result != 0;
}
