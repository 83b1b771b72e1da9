/* The C interface for programs: as onebranch_engine.h, for networks that are described as a list of
   operations (see program.cpp). Each function does what the function of the same name without "program_"
   does. */

#ifndef ONEBRANCH_PROGRAM_H
#define ONEBRANCH_PROGRAM_H

#include "onebranch_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ob_program ob_program;
typedef struct ob_program_stream ob_program_stream;

OB_API ob_program *ob_program_open(const uint8_t *bytes, size_t size, const char *instructions, char *message,
                                   size_t message_size);
OB_API void ob_program_close(ob_program *program);
OB_API int64_t ob_program_output_height(const ob_program *program, int64_t height);
OB_API int64_t ob_program_output_width(const ob_program *program, int64_t width);
/* The conversion of the format must be OB_OWN. */
OB_API int32_t ob_program_run(const ob_program *program, const ob_format *format, const void *input,
                              void *output, int32_t threads, int64_t strip, int64_t band,
                              ob_cancellation cancellation, char *message, size_t message_size);
OB_API ob_program_stream *ob_program_stream_open(const ob_program *program, const ob_format *format,
                                                 int32_t threads, char *message, size_t message_size);
OB_API int64_t ob_program_stream_ready(const ob_program_stream *stream, int64_t rows);
OB_API int32_t ob_program_stream_push(ob_program_stream *stream, const void *input, int64_t count,
                                      int64_t input_plane, void *output, int64_t output_plane,
                                      ob_cancellation cancellation, char *message, size_t message_size);
OB_API void ob_program_stream_close(ob_program_stream *stream);
OB_API double ob_program_peak(const ob_program *program, int32_t precision, double seconds);

/* One operation of programs on `count` samples, by enum Unary of kernel_set.h, for tests; 0 for an operation
   or an instruction set that does not exist. */
OB_API int32_t ob_program_unary(const char *instructions, int32_t operation, const float *from, float a,
                                float b, size_t count, float *to);

#ifdef __cplusplus
}
#endif
#endif
