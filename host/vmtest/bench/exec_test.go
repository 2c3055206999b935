// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// warmups are not counted: the emulator translates code as it meets it.
	warmups    = 20
	trueRounds = 400
	// executeRounds start an interpreter each.
	executeRounds = 40
)

// benchTrue measures a command that does nothing, over the kept connection.
func benchTrue(b *testing.B, e *environment) {
	var samples []float64
	for i := range warmups + trueRounds {
		began := time.Now()
		exited, err := e.guest().Run(b.Context(), guest.Exec{Start: &guestv1.Start{
			ExecId:  fmt.Sprintf("true-%d", i),
			Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"true"}}},
		}})
		took := time.Since(began)
		require.NoError(b, err)
		require.Zero(b, exited.GetExitCode())
		require.Nil(b, exited.GetSpawnFailure())
		if i >= warmups {
			samples = append(samples, took.Seconds())
		}
	}
	report(b, "call", "sec", samples)
}

// benchExecute measures the tool: a file, an interpreter, its output.
func benchExecute(b *testing.B, e *environment) {
	var samples []float64
	for i := range executeRounds + 1 {
		var ran struct {
			Stdout string `json:"stdout"`
		}
		began := time.Now()
		e.site.session.Call(b, "execute", map[string]any{"environment_id": e.id, "code": "print(6*7)"}, &ran)
		took := time.Since(began)
		require.Equal(b, "42\n", ran.Stdout)
		if i > 0 {
			samples = append(samples, took.Seconds())
		}
	}
	report(b, "call", "sec", samples)
}
