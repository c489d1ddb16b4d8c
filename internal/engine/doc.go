// Package engine carries out plans: it observes each step, fetches what is pending in parallel, changes serially,
// writes everything that it is about to change into a journal first, and undoes or goes on from that journal, in the
// same process or another.
//
// It knows steps, files, packages and units, and nothing of AWS, agents, Docker or Linux.
package engine
