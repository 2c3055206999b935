// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/stacklok/waggle/host/environment"
)

// The streams of an execution, as they are called in addresses.
const (
	streamStdout = "stdout"
	streamStderr = "stderr"
)

// address is what the address of a resource says: a file, or a stream of an
// execution.
type address struct {
	env               string
	execution, stream string
	file              string
	// offset and limit choose a piece. limit 0: all of it.
	offset, limit int64
}

func outputURI(env, execution, stream string) string {
	return fmt.Sprintf("waggle://env/%s/exec/%s/%s", env, url.PathEscape(execution), stream)
}

// fileURI is the address of an absolute path.
func fileURI(env, file string) string {
	u := url.URL{Scheme: "waggle", Host: "env", Path: "/" + env + "/files" + path.Clean("/"+file)}
	return u.String()
}

// parseURI reads the address of a resource.
func parseURI(raw string) (address, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "waggle" || u.Host != "env" {
		return address{}, invalid("uri is none of this server")
	}
	env, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	a := address{env: env}
	if a.offset, a.limit, err = parseRange(u.Query()); err != nil {
		return address{}, err
	}
	kind, rest, _ := strings.Cut(rest, "/")
	switch kind {
	case "files":
		a.file = path.Clean("/" + rest)
		return a, nil
	case "exec":
		a.execution, a.stream, _ = strings.Cut(rest, "/")
		if a.stream == streamStdout || a.stream == streamStderr {
			return a, nil
		}
	}
	return address{}, invalid("uri must be waggle://env/ID/files/PATH or waggle://env/ID/exec/EXECUTION_ID/stdout or …/stderr")
}

func parseRange(q url.Values) (offset, limit int64, err error) {
	for name := range q {
		var to *int64
		switch name {
		case "offset":
			to = &offset
		case "limit":
			to = &limit
		default:
			return 0, 0, invalid("uri has %.32q: offset and limit are what it may have after the '?'", name)
		}
		if *to, err = strconv.ParseInt(q.Get(name), 10, 64); err != nil || *to < 0 || name == "limit" && *to == 0 {
			return 0, 0, invalid("%s of uri must be a whole number of bytes", name)
		}
	}
	if limit > environment.MaxRead {
		return 0, 0, invalid("limit of uri must be 1 to %d", environment.MaxRead)
	}
	return offset, limit, nil
}
