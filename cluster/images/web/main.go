// web is what runs in the pods of tests on real nodes: the application, and the client that says how well it is served.
//
//	web serve [ADDRESS:PORT]          answers with its pod's name until it is told to stop
//	web poll URL [EVERY [PATIENCE]]   asks the URL again and again, each time over a new connection
//	web watch FILE…                   tells when what is in these files changes
//	web get URL                       asks once; the API server with the pod's own token
//
// Durations are Go's: 5ms, 2s. What poll and watch print is one line for each thing that they saw; every time is in
// milliseconds since 1970.
package main

import (
	"log"
	"os"
	"time"
)

func main() {
	log.SetFlags(log.LUTC | log.LstdFlags | log.Lmicroseconds)
	if len(os.Args) < 2 {
		usage()
	}
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve(argument(arguments, 0, ":8080"))
	case "poll":
		poll(argument(arguments, 0, ""), duration(arguments, 1, 5*time.Millisecond), duration(arguments, 2, 2*time.Second))
	case "watch":
		watch(arguments)
	case "get":
		get(argument(arguments, 0, ""))
	default:
		usage()
	}
}

func usage() {
	log.Fatal("usage: web serve [ADDRESS:PORT] | poll URL [EVERY [PATIENCE]] | watch FILE… | get URL")
}

func argument(all []string, index int, otherwise string) string {
	if index < len(all) {
		return all[index]
	}
	if otherwise == "" {
		usage()
	}
	return otherwise
}

func duration(all []string, index int, otherwise time.Duration) time.Duration {
	found, err := time.ParseDuration(argument(all, index, otherwise.String()))
	if err != nil {
		log.Fatal(err)
	}
	return found
}

// milliseconds is the time with which lines begin.
func milliseconds(at time.Time) float64 {
	return float64(at.UnixMicro()) / 1000
}
