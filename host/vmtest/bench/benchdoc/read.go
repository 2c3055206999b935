// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"regexp"

	"golang.org/x/perf/benchfmt"
)

// results is what one run printed.
type results struct {
	// config has the last value of each configuration key.
	config map[string]string
	// metrics of the machine's benchmarks, by name and unit.
	metrics map[string]map[string]float64
	// micro are the benchmarks of other packages, in their order.
	micro []*benchfmt.Result
}

// procs is the suffix that package testing adds for GOMAXPROCS.
var procs = regexp.MustCompile(`-\d+$`)

func read(in io.Reader, name string) (*results, error) {
	res := &results{config: map[string]string{}, metrics: map[string]map[string]float64{}}
	reader := benchfmt.NewReader(in, name)
	for reader.Scan() {
		switch r := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, r
		case *benchfmt.Result:
			res.add(r.Clone())
		}
	}
	if err := reader.Err(); err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	return res, nil
}

func (res *results) add(r *benchfmt.Result) {
	for _, c := range r.Config {
		res.config[c.Key] = string(c.Value)
	}
	r.Name = procs.ReplaceAll(r.Name, nil)
	if r.GetConfig("pkg") != machinePackage {
		res.micro = append(res.micro, r)
		return
	}
	units := map[string]float64{}
	for _, v := range r.Values {
		units[v.Unit] = v.Value
	}
	res.metrics[string(r.Name)] = units
}
