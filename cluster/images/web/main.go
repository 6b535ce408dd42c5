// web runs in the pods of tests on real nodes, as the application and as a client that measures its availability.
//
//	web serve [ADDRESS:PORT]           serve the name of the pod until a signal
//	web poll URL [INTERVAL [TIMEOUT]]  request the URL periodically, each time over a new connection
//	web watch FILE…                    report changes of these files
//	web get URL                        request the URL once, with the token of the pod for the API server
//
// Durations are those of Go: 5ms, 2s. poll and watch print one line for each observation. Times are in milliseconds since 1970.
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
	log.Fatal("usage: web serve [ADDRESS:PORT] | poll URL [INTERVAL [TIMEOUT]] | watch FILE… | get URL")
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

// milliseconds returns the time at the beginning of a line.
func milliseconds(at time.Time) float64 {
	return float64(at.UnixMicro()) / 1000
}
