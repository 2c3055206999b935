// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func valid() *guestv1.Start {
	return &guestv1.Start{ExecId: "x", Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"true"}}}}
}

func TestCheckStart(t *testing.T) {
	t.Parallel()
	require.NoError(t, checkStart(valid()))
	for field, changes := range map[string][]func(*guestv1.Start){
		"exec_id": {
			func(s *guestv1.Start) { s.ExecId = "" },
			func(s *guestv1.Start) { s.ExecId = strings.Repeat("a", 129) },
			func(s *guestv1.Start) { s.ExecId = ".hidden" },
			func(s *guestv1.Start) { s.ExecId = "-flag" },
			func(s *guestv1.Start) { s.ExecId = "a/b" },
			func(s *guestv1.Start) { s.ExecId = "ä" },
		},
		"start":   {func(s *guestv1.Start) { s.Command = &guestv1.Start_Shell{Shell: strings.Repeat("a", maxStart)} }},
		"command": {func(s *guestv1.Start) { s.Command = nil }},
		"shell":   {func(s *guestv1.Start) { s.Command = &guestv1.Start_Shell{} }, func(s *guestv1.Start) { s.Command = &guestv1.Start_Shell{Shell: "a\x00"} }},
		"argv.args": {
			func(s *guestv1.Start) { s.GetArgv().Args = nil },
			func(s *guestv1.Start) { s.GetArgv().Args = []string{""} },
			func(s *guestv1.Start) { s.GetArgv().Args = []string{"a", "b\x00"} },
			func(s *guestv1.Start) { s.GetArgv().Args = make([]string, maxArgs+1); s.GetArgv().Args[0] = "a" },
		},
		"env": {
			func(s *guestv1.Start) { s.Env = map[string]string{"": "x"} },
			func(s *guestv1.Start) { s.Env = map[string]string{"A=B": "x"} },
			func(s *guestv1.Start) { s.Env = map[string]string{"A": "\x00"} },
			func(s *guestv1.Start) {
				s.Env = map[string]string{}
				for i := range maxEnv + 1 {
					s.Env[fmt.Sprint(i)] = ""
				}
			},
		},
		"cwd": {
			func(s *guestv1.Start) { s.Cwd = "relative" },
			func(s *guestv1.Start) { s.Cwd = "/\x00" },
			func(s *guestv1.Start) { s.Cwd = "/" + strings.Repeat("a", maxPath) },
		},
		"user": {
			func(s *guestv1.Start) { s.User = "a:b" },
			func(s *guestv1.Start) { s.User = strings.Repeat("a", maxName+1) },
			func(s *guestv1.Start) { s.User, s.AsRoot = "a", true },
		},
		"stdin_mode":         {func(s *guestv1.Start) { s.StdinMode = 9 }},
		"on_detach":          {func(s *guestv1.Start) { s.OnDetach = -1 }},
		"output_policy":      {func(s *guestv1.Start) { s.OutputPolicy = 2 }},
		"output_limit_bytes": {func(s *guestv1.Start) { s.OutputLimitBytes = maxOutput + 1 }},
		"pty.term":           {func(s *guestv1.Start) { s.Pty = &guestv1.Pty{Term: strings.Repeat("a", maxTerm+1)} }},
		"pty.size": {
			func(s *guestv1.Start) { s.Pty = &guestv1.Pty{Size: &guestv1.TerminalSize{Rows: 0, Cols: 1}} },
			func(s *guestv1.Start) { s.Pty = &guestv1.Pty{Size: &guestv1.TerminalSize{Rows: 1, Cols: 5000}} },
		},
		"timeout": {
			func(s *guestv1.Start) { s.Timeout = durationpb.New(-time.Second) },
			func(s *guestv1.Start) { s.Timeout = &durationpb.Duration{Seconds: 1 << 62} },
			func(s *guestv1.Start) { s.Timeout = &durationpb.Duration{Seconds: 1, Nanos: -1} },
		},
		"kill_grace": {func(s *guestv1.Start) { s.KillGrace = durationpb.New(time.Minute + 1) }},
	} {
		for i, change := range changes {
			s := valid()
			change(s)
			err := checkStart(s)
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%s %d", field, i)
			require.ErrorContains(t, err, field+": ")
			require.Less(t, len(err.Error()), 512)
		}
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	s := valid()
	s.Command = &guestv1.Start_Shell{Shell: strings.Repeat("ä", 1000)}
	require.Equal(t, strings.Repeat("ä", 512), preview(s))
	s.Command = &guestv1.Start_Shell{Shell: "a" + strings.Repeat("ä", 1000)}
	require.Equal(t, "a"+strings.Repeat("ä", 511), preview(s))
}

// FuzzCheckStart takes any message. What is accepted must be safe as a name of
// a file and fit the bounds that the rest of the package counts on.
func FuzzCheckStart(f *testing.F) {
	for _, s := range []*guestv1.Start{valid(), {ExecId: "../x"}, {ExecId: "a", Timeout: durationpb.New(-1)}} {
		data, err := proto.Marshal(s)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &guestv1.Start{}
		if proto.Unmarshal(data, s) != nil {
			return
		}
		err := checkStart(s)
		if err != nil {
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
			return
		}
		id := s.GetExecId()
		require.Equal(t, id, path.Base(path.Clean("/"+id)))
		require.NotContains(t, id+s.GetCwd()+s.GetUser()+s.GetShell()+strings.Join(s.GetArgv().GetArgs(), ""), "\x00")
		require.LessOrEqual(t, s.GetKillGrace().AsDuration(), maxGrace)
		require.GreaterOrEqual(t, s.GetTimeout().AsDuration(), time.Duration(0))
		require.LessOrEqual(t, len(preview(s)), commandPreview)
		_, err = digestOf(s)
		require.NoError(t, err)
	})
}
