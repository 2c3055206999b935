// SPDX-License-Identifier: Apache-2.0
//
// Streams between host and guest, with libkrun's habits: what the host half-closes
// is cut for the guest and stays open for the host; what the host closes is cut
// with all that was not yet read; a host that does not read holds up all streams.

#define _GNU_SOURCE
#include "double.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 5, REAPER_SECONDS = 5 };

struct stream {
	int host, guest;
	char buffer[65536]; // on its way to the guest
	size_t begin, end;
};

struct door {
	int listener;
	bool inward;
	char *path; // what each accepted stream is connected to
};

static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER;

// wired is set when the host's ways to the guest are there. The guest's driver asks
// libkrun for them, so no word of the guest comes before: the host answers the first
// one, its ready call, by dialling.
static bool wired;
static pthread_mutex_t wiring = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wired_now = PTHREAD_COND_INITIALIZER;

static void await_wired(void)
{
	pthread_mutex_lock(&wiring);
	while (!wired)
		pthread_cond_wait(&wired_now, &wiring);
	pthread_mutex_unlock(&wiring);
}

static void start(void *(*body)(void *), void *arg)
{
	pthread_t thread;
	sigset_t all, old;
	sigfillset(&all); // signals are for the caller's runtime, on its own threads
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, body, arg) != 0)
		abort();
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_detach(thread);
}

static bool address(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a->sun_path)
		return false;
	strcpy(a->sun_path, path);
	return true;
}

static int dial(const char *path)
{
	struct sockaddr_un a;
	if (!address(&a, path))
		abort(); // libkrun panics
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	close(fd);
	return -1;
}

// to_guest moves what was read from the host on, as far as the guest takes it.
static bool to_guest(struct stream *s)
{
	ssize_t n = send(s->guest, s->buffer + s->begin, s->end - s->begin, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN;
	s->begin += (size_t)n;
	return true;
}

// to_host sends all, however long that takes, and nobody else meanwhile.
static bool to_host(const struct stream *s, const char *data, size_t size)
{
	bool good = true;
	pthread_mutex_lock(&sending);
	while (size > 0 && good) {
		ssize_t n = send(s->host, data, size, MSG_NOSIGNAL);
		good = n > 0;
		data += good ? n : 0;
		size -= good ? (size_t)n : 0;
	}
	pthread_mutex_unlock(&sending);
	return good;
}

// dropped gives the host time to close, where a test says how much, and tells
// whether it did: libkrun's own time is between none and enough.
static bool dropped(const struct stream *s)
{
	struct pollfd p = {.fd = s->host};
	const char *late = order_value("late");
	return late != NULL && poll(NULL, 0, atoi(late)) == 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
}

// from_host returns false when the stream is over for the guest.
static bool from_host(struct stream *s)
{
	ssize_t n = read(s->host, s->buffer, sizeof s->buffer);
	if (n <= 0) {
		s->host = -1; // half-closed: reset, and the descriptor is forgotten
		return false;
	}
	s->begin = 0;
	s->end = (size_t)n;
	return to_guest(s);
}

// from_guest returns false at the end of the stream; *half is set when the guest
// only writes no more.
static bool from_guest(struct stream *s, bool hungup, bool *half)
{
	char data[65536];
	ssize_t n = read(s->guest, data, sizeof data);
	if (n > 0)
		return to_host(s, data, (size_t)n);
	if (n < 0 || hungup)
		return false;
	shutdown(s->host, SHUT_WR);
	*half = true;
	return true;
}

static void *carry(void *arg)
{
	struct stream *s = arg;
	bool half = false, good = true;
	while (good) {
		bool full = s->begin < s->end;
		struct pollfd p[2] = {
			{.fd = s->host, .events = full ? 0 : POLLIN},
			{.fd = s->guest, .events = (short)((half ? 0 : POLLIN) | (full ? POLLOUT : 0))},
		};
		if (poll(p, 2, -1) < 0)
			continue;
		bool hungup = (p[1].revents & (POLLHUP | POLLERR)) != 0;
		if ((p[0].revents & (POLLHUP | POLLERR)) != 0)
			break; // closed by the host: what it wrote last is lost
		if ((p[0].revents & POLLIN) != 0)
			good = !dropped(s) && from_host(s);
		if (good && (p[1].revents & POLLOUT) != 0)
			good = to_guest(s);
		if (good && (p[1].revents & POLLIN) != 0)
			good = from_guest(s, hungup, &half);
		else if (hungup)
			good = false;
	}
	if (s->host >= 0)
		close(s->host);
	close(s->guest);
	free(s);
	return NULL;
}

static void *serve(void *arg)
{
	struct door *d = arg;
	for (;;) {
		int near = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);
		if (near < 0)
			continue;
		if (!d->inward)
			await_wired();
		int far = dial(d->path);
		if (far < 0) {
			// A guest hears nothing of it, ever; the host after a while.
			if (d->inward) {
				sleep(REAPER_SECONDS);
				close(near);
			}
			continue;
		}
		struct stream *s = calloc(1, sizeof *s);
		if (s == NULL)
			abort();
		s->host = d->inward ? near : far;
		s->guest = d->inward ? far : near;
		start(carry, s);
	}
	return NULL;
}

// listen_on only tells of a failure, as libkrun does.
static void listen_on(const char *path, const char *far, bool inward)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct call c;
	call_open(&c, "listen");
	bool good = fd >= 0 && address(&a, path) && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, BACKLOG) == 0;
	call_text(&c, "path", path);
	call_bool(&c, "ok", good);
	call_event(&c);
	if (!good) {
		fprintf(stderr, "double: cannot listen on %s\n", path);
		close(fd);
		return;
	}
	struct door *d = calloc(1, sizeof *d);
	if (d == NULL)
		abort();
	*d = (struct door){fd, inward, copied(far)};
	start(serve, d);
}

static void wire(const struct context *x, bool inward)
{
	char guest[64];
	for (int i = 0; i < x->nports; i++) {
		const struct port *p = &x->ports[i];
		if (p->listen != inward)
			continue;
		snprintf(guest, sizeof guest, SOCKETS "/%u", p->number);
		listen_on(inward ? p->path : guest, inward ? guest : p->path, inward);
	}
}

void wire_outward(const struct context *x)
{
	wire(x, false);
}

void wire_inward(const struct context *x)
{
	wire(x, true);
	pthread_mutex_lock(&wiring);
	wired = true;
	pthread_cond_broadcast(&wired_now);
	pthread_mutex_unlock(&wiring);
}
