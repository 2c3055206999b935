// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/docker/distribution/registry/api/errcode"
	"go.podman.io/image/v5/docker"
)

const (
	// maxTries is how often one request is made before the pull gives up.
	maxTries = 5
	// firstDelay is what the second try waits for, doubled for each further one: four
	// delays of 1 to 8 s outlast the restart of a registry or a proxy.
	firstDelay = time.Second
	// stallTimeout is how long a source may send nothing. TCP itself would wait for
	// hours for one that has vanished without a word. It is more than the minute that
	// containers/image waits for a registry that says 429.
	stallTimeout = 90 * time.Second
)

// errStalled ends a transfer in which nothing comes any more.
var errStalled = errors.New("the source has stopped sending")

// retry runs fetch until it succeeds, fails for good, or has failed too often. started
// says that the registry has answered before: one that then refuses a connection is
// being restarted, while one that never answered is more likely a typing error.
func (p *puller) retry(ctx context.Context, started bool, fetch func(context.Context) error) error {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.Multiplier = p.store.retryDelay, 2
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := fetch(ctx)
		if err != nil && (p.from.file || !passing(err, started)) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(delays), backoff.WithMaxTries(maxTries), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, delay time.Duration) {
			p.report(Progress{Phase: PhaseRetry, Why: fmt.Sprintf("trying again in %s: %v", delay.Round(100*time.Millisecond), err)})
		}))
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) { // the last try of all is not unwrapped
		err = permanent.Unwrap()
	}
	return err
}

// passing says whether what failed may succeed a moment later. What it does not know
// fails for good: a wrong name or a missing login stays wrong.
func passing(err error, started bool) bool {
	var status docker.UnexpectedHTTPStatusError
	var coder errcode.ErrorCoder
	var network net.Error
	switch {
	case errors.Is(err, errStalled), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, ErrCorrupt), errors.Is(err, ErrPolicy):
		return false
	case errors.As(err, &status):
		return status.StatusCode >= http.StatusInternalServerError
	case errors.As(err, &coder):
		return coder.ErrorCode().Descriptor().HTTPStatusCode >= http.StatusInternalServerError
	case errors.Is(err, syscall.ECONNREFUSED):
		return started
	}
	for _, cut := range []error{
		syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN,
	} {
		if errors.Is(err, cut) {
			return true
		}
	}
	return errors.As(err, &network) && network.Timeout()
}

// watch returns a context that ends when nothing has happened for so long; alive says
// that something has, done stops watching.
func watch(ctx context.Context, limit time.Duration) (watched context.Context, alive, done func()) {
	watched, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(errStalled) })
	return watched, func() { timer.Reset(limit) }, func() { timer.Stop(); cancel(nil) }
}

// stalled puts the reason why ctx ended into an error that only says that it did.
func stalled(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w (%w)", errStalled, err)
	}
	return err
}
