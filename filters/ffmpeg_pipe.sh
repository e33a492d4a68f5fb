#!/usr/bin/env bash
# Enlarges a film between two ffmpeg processes; sound, subtitles and fonts go past vsr.
#   filters/ffmpeg_pipe.sh IN.mkv OUT.mkv [options of `vsr pipe`, such as -s 2]
# NUT keeps the times of the frames; -copyts keeps them beside the sound.
set -euo pipefail

in=$1 out=$2
shift 2
times=(-fps_mode passthrough -enc_time_base -1)

ffmpeg -nostdin -v error -copyts -i "file:$in" -map 0:v:0 -c:v rawvideo "${times[@]}" -f nut - |
    vsr pipe "$@" |
    ffmpeg -v error -copyts -f nut -i - -copyts -i "file:$in" \
        -map 0:v -map '1:a?' -map '1:s?' -map '1:t?' -map_metadata 1 -map_chapters 1 \
        -c copy -c:v libx264 -crf 18 "${times[@]}" -avoid_negative_ts disabled "file:$out"
