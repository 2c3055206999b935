// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// maxPrograms is the most programs that a runtime tries.
	maxPrograms = 8
	// endTimeout bounds the request to end an execution.
	endTimeout = 5 * time.Second
)

// execution is a request with all that it takes to run it.
type execution struct {
	env    string
	id     string
	client *guest.Client
	req    ExecRequest
	rt     runtime // of code
	dir    string
	dirs   []string // where the code may lie
	file   string   // the code, once it was handed in
	at     int      // the program that is tried
	// existing: the guest knew it before. foreign: with another input.
	existing, foreign bool
}

// guestID is what the guest calls the try of one program. An id of a caller may begin
// with what the guest's may not.
func guestID(id string, program int) string { return fmt.Sprintf("x%d-%s", program, id) }

// plan completes a request.
func (m *Manager) plan(ctx context.Context, c *call, req ExecRequest) (*execution, error) {
	k, err := m.kit(ctx, c)
	if err != nil {
		return nil, err
	}
	x := &execution{env: c.info.ID, id: req.ExecutionID, client: c.machine.Guest(), req: req, dir: req.Cwd}
	if x.id == "" {
		x.id = random(12)
	}
	if x.dir == "" {
		x.dir = k.dir
	}
	if req.Command != nil {
		return x, nil
	}
	if x.req.Language == "" {
		if x.req.Language, err = m.language(ctx, c); err != nil {
			return nil, err
		}
	}
	if x.rt, err = m.runtimeOf("language", x.req.Language); err != nil {
		return nil, err
	}
	x.dirs = codeDirs(k, x.rt, x.dir)
	return x, nil
}

// handIn writes the code where the guest finds it, unless the guest has it.
func (x *execution) handIn(ctx context.Context) (err error) {
	if x.req.Command != nil {
		return nil
	}
	name := codeName(x.id, x.rt, x.req.Code)
	if x.req.ExecutionID != "" {
		_, err := x.client.Exec(ctx, guestID(x.id, 0))
		if err == nil {
			// It was handed in to the first place, or, rarely, to another one.
			x.existing, x.file = true, path.Join(x.dirs[0], name)
			return nil
		}
		if connect.CodeOf(err) != connect.CodeNotFound {
			return execError(ctx, err)
		}
	}
	x.file, err = writeCode(ctx, x.client, x.dirs, name, x.req.Code)
	return err
}

// run starts or finds it, and follows it to its end with the first program that is
// installed. started is called once it runs; may be nil.
func (x *execution) run(ctx context.Context, started func()) (ExecResult, error) {
	programs := x.rt.programs
	if x.req.Command != nil {
		programs = [][]string{x.req.Command}
	}
	for i, program := range programs[:min(len(programs), maxPrograms)] {
		x.at = i
		exited, out, err := x.try(ctx, program, started)
		if err != nil {
			x.foreign = connect.CodeOf(err) == connect.CodeAlreadyExists
			return ExecResult{}, execError(ctx, err)
		}
		if failure := exited.GetSpawnFailure(); failure != nil {
			missing := failure.GetKind() == guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND
			if missing && i+1 < len(programs) {
				continue
			}
			return ExecResult{}, spawnError(x.rt, x.req.Command, failure)
		}
		r := execResult(x.id, exited)
		r.Language, r.Continued = x.rt.name, x.existing
		r.Stdout, r.Stderr = out[0].output(exited.GetStdoutBytes()), out[1].output(exited.GetStderrBytes())
		return r, nil
	}
	return ExecResult{}, fmt.Errorf("%w: no program for %s", ErrNoInterpreter, x.rt.name)
}

// try runs one program. Where the code of an execution that exists may lie elsewhere,
// it looks there too.
func (x *execution) try(ctx context.Context, program []string, started func()) (*guestv1.Exited, *[2]collector, error) {
	exited, out, err := x.follow(ctx, program, started)
	if !x.existing || connect.CodeOf(err) != connect.CodeAlreadyExists {
		return exited, out, err
	}
	for _, dir := range x.dirs[1:] {
		x.file = path.Join(dir, path.Base(x.file))
		if exited, out, err = x.follow(ctx, program, started); connect.CodeOf(err) != connect.CodeAlreadyExists {
			break
		}
	}
	return exited, out, err
}

func (x *execution) follow(ctx context.Context, program []string, started func()) (*guestv1.Exited, *[2]collector, error) {
	var out [2]collector
	run := guest.Exec{Start: x.start(program), Stdout: &out[0], Stderr: &out[1]}
	if x.req.Output != nil {
		out[0].also = func(p []byte) { x.req.Output(false, p) }
		out[1].also = func(p []byte) { x.req.Output(true, p) }
	}
	if x.req.Background {
		run.Stdout, run.Stderr = nil, nil // nobody waits for it
	}
	var stdin *once
	if x.req.Stdin != "" {
		stdin = newOnce(x.req.Stdin)
		defer stdin.close()
		run.Stdin = stdin
	}
	run.Started = func(s *guestv1.Started) {
		x.existing = x.existing || s.GetExisting()
		if stdin != nil && !s.GetExisting() {
			stdin.release()
		}
		if started != nil && s.GetPid() != 0 {
			started()
		}
	}
	exited, err := x.client.Run(ctx, run)
	return exited, &out, err
}

// start is what the guest is asked for. The guest compares all of it with what it
// knows by the same id, so it has to be the same for the same input, whoever waits.
func (x *execution) start(program []string) *guestv1.Start {
	s := &guestv1.Start{
		ExecId: guestID(x.id, x.at), Env: maps.Clone(x.rt.env), Cwd: x.dir, AsRoot: x.req.AsRoot,
		Timeout: durationpb.New(x.req.Timeout),
	}
	argv := append([]string(nil), program...)
	if x.req.Command == nil {
		argv = append(append(argv, x.rt.boot...), x.file)
	}
	s.Command = &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: argv}}
	if s.Env == nil {
		s.Env = make(map[string]string)
	}
	maps.Copy(s.Env, x.req.Env)
	if x.req.Stdin != "" {
		s.StdinMode = guestv1.StdinMode_STDIN_MODE_PIPE
		sum := sha256.Sum256([]byte(x.req.Stdin))
		s.Env["WAGGLE_STDIN_SHA256"] = hex.EncodeToString(sum[:])
	}
	if x.req.ExecutionID != "" || x.req.Background {
		// Somebody knows its name, and may come back after a server has died.
		s.OnDetach = guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING
	}
	return s
}

// settle is for who was the last to follow an execution: it ends what nobody wants
// any more, and removes the code.
func (m *Manager) settle(ctx context.Context, x *execution, unwanted bool) {
	if x.foreign {
		return
	}
	if unwanted {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		if err := x.client.Terminate(ctx, guestID(x.id, x.at)); err != nil && !ended(err) {
			m.log.Warn("execution was not ended", "env", x.env, "execution", x.id, "error", err)
		}
	}
	if x.file != "" {
		m.remove(x.env, x.client, x.file)
	}
}

// ended tells that an execution was over before it could be ended.
func ended(err error) bool {
	code := connect.CodeOf(err)
	return code == connect.CodeNotFound || code == connect.CodeFailedPrecondition
}

// follow counts one more call that follows an execution. leave counts it out, and
// says whether it was the last.
func (e *environment) follow(id string) (leave func() (last bool)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.followers == nil {
		e.followers = make(map[string]int)
	}
	e.followers[id]++
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.followers[id]--; e.followers[id] > 0 {
			return false
		}
		delete(e.followers, id)
		return true
	}
}

var errAbandoned = errors.New("its caller left before it ran")
